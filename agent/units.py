"""Quantities as people write them, and the names of the numbers that cross modules.

Sizes are binary ("8GiB") or decimal ("500MB"), durations carry their unit ("60s", "10m", "30d"), rates are sizes per
second ("2MiB/s"). A bare number is refused: nobody should have to guess its unit.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NewType, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Frames = NewType("Frames", int)
"""A count of audio frames: one sample of every channel."""

Nanoseconds = NewType("Nanoseconds", int)
"""A point on, or a length of, the monotonic clock of one boot."""

NS_PER_S = 1_000_000_000

_DECIMAL = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE_UNITS = _DECIMAL | _BINARY
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_MOST_BYTES = 2**53
"""Up to here a float counts bytes exactly."""

_MOST_SECONDS = 36_500 * 86_400.0
"""A hundred years, so that every duration still fits into 64 bits of nanoseconds."""


class MisreadError(ValueError):
    """Text that isn't what it should be (`cause`), and how to write it (`hint`)."""

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(f"{cause}: {hint}")
        self.cause = cause
        self.hint = hint


class Written:
    """Lets pydantic read and describe a value written as text, without importing pydantic here."""

    __slots__ = ()

    pattern = ""
    example = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person wrote. Raises MisreadError."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def read(value: object) -> object:
            if isinstance(value, cls):
                return value
            if isinstance(value, str):
                return cls.parse(value)
            cause = "has no unit" if isinstance(value, int | float) and not isinstance(value, bool) else "isn't text"
            raise MisreadError(cause, f'write it in quotes, such as "{cls.example}"')

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": cls.pattern, "examples": [cls.example]}


def _quantity(text: str, units: Mapping[str, float], most: float, what: str, example: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text, re.ASCII)
    if match is None or match[2] not in units:
        raise MisreadError(f"isn't {what}", f'write a number with one of {", ".join(units)}, such as "{example}"')
    value = float(match[1]) * units[match[2]]
    if value > most:
        raise MisreadError("is too large", f'write {what} such as "{example}"')
    return value


def _decimal(value: float, digits: int) -> str:
    """`value` with as many as `digits` decimals as it needs, never in exponent form."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Size(Written, int):
    """A number of bytes, written "8GiB"; `str` writes it back so that it reads the same."""

    pattern = r"^\s*\d+(\.\d+)?\s*(B|[kKMGT]B|[KMGT]iB)\s*$"
    example = "8GiB"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "500MB" (10⁶) or "8GiB" (2³⁰), to the nearest byte. Raises MisreadError."""
        return cls(round(_quantity(text, _SIZE_UNITS, _MOST_BYTES, "a size", cls.example)))

    def __str__(self) -> str:
        for unit, factor in sorted(_SIZE_UNITS.items(), key=lambda item: -item[1]):
            if self >= factor > 1 and int(self) * 100 % factor == 0:
                return f"{_decimal(self / factor, 2)}{unit}"
        return f"{int(self)}B"


class Duration(Written, float):
    """A number of seconds, written "60s" or "30d"; `str` writes it back to the nearest nanosecond."""

    pattern = r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*$"
    example = "60s"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "250ms", "60s", "10m", "12h", "30d", "2w". Raises MisreadError."""
        return cls(_quantity(text, _TIME_UNITS, _MOST_SECONDS, "a duration", cls.example))

    @property
    def ns(self) -> Nanoseconds:
        """The same length in nanoseconds."""
        return Nanoseconds(round(float(self) * NS_PER_S))

    def __str__(self) -> str:
        for unit in ("d", "h", "m"):
            if self >= _TIME_UNITS[unit] and self % _TIME_UNITS[unit] == 0:
                return f"{_decimal(self / _TIME_UNITS[unit], 0)}{unit}"
        return f"{_decimal(self, 9)}s"


class ByteRate(Written, int):
    """Bytes per second, written "2MiB/s"; "" is no limit and reads as 0."""

    pattern = r"^$|^\s*\d+(\.\d+)?\s*(B|[kKMGT]B|[KMGT]iB)/s\s*$"
    example = "2MiB/s"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "2MiB/s", to the nearest byte, or "". Raises MisreadError."""
        if not text.strip():
            return cls(0)
        size, _, per = text.partition("/")
        if per.strip() != "s":
            raise MisreadError("isn't a rate", f'write a size per second, such as "{cls.example}", or "" for no limit')
        return cls(round(_quantity(size, _SIZE_UNITS, _MOST_BYTES, "a rate", cls.example)))

    def __str__(self) -> str:
        return f"{Size(self)}/s" if self else ""


def plain_number(value: float) -> float | int:
    """Whole numbers without a fraction, so that counts read as counts."""
    return int(value) if value == int(value) else float(value)


def human_bytes(count: int) -> str:
    """A size for reading, three digits where they say enough: "1.95 GiB", "1010 KiB"."""
    if abs(count) < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        if abs(value) < 1024:
            break
    return f"{value:.0f} {unit}"


def human_seconds(seconds: float) -> str:
    """A length of time for reading: "2 d 3 h", "4 min 5 s", "0.2 s"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    parts = [
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    ]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2])
