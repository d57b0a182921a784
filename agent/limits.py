"""The limits of the alerts, as a configuration says them: one frozen dataclass a kind of number.

Their defaults are those of the alert table (agent.contract.alerts). A file may say a part of an alert; a limit that is
"off" is None here. Like all of agent.settings these are plain values to a long-running process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le

from agent.contract import alerts
from agent.units import Duration, MisreadError, Size, Written, plain_number

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_SECTION: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}


class Off:
    """Lets a file say "off" where there is no limit: TOML has no null."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def read(value: object) -> object:
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                raise MisreadError("isn't a limit", 'write a number, or "off" for none')
            return None if value == "off" else value

        def write(limit: float | None) -> object:
            return "off" if limit is None else str(limit) if isinstance(limit, Written) else plain_number(limit)

        return core_schema.no_info_before_validator_function(
            read, handler(source), serialization=core_schema.plain_serializer_function_ser_schema(write)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        limit = next(kind for kind in handler(schema)["anyOf"] if kind.get("type") != "null")
        return {"anyOf": [limit, {"const": "off"}]}


class _Row:
    """Completes an alert of which a file says only a part by that row of the alert table, and describes it."""

    def __init__(self, name: str) -> None:
        self._alert = alerts.BY_NAME[name]

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def complete(value: object) -> object:
            return {**self._defaults(), **value} if isinstance(value, dict) else value

        return core_schema.no_info_before_validator_function(complete, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = dict(handler.resolve_ref_schema(handler(schema)))
        described.pop("required")
        defaults = self._defaults()
        described["properties"] = {
            name: {**key, "default": defaults[name]} for name, key in described["properties"].items()
        }
        text = f"{self._alert.description}. Watches: {self._alert.watches}."
        return described | {"description": text[:1].upper() + text[1:]}

    def _defaults(self) -> dict[str, Any]:
        """As a file would say them."""
        limits = getattr(Alerts(), self._alert.name)
        plain = {key.name: getattr(limits, key.name) for key in fields(limits)}
        return {
            name: "off" if value is None else str(value) if isinstance(value, Written) else value
            for name, value in plain.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLimits:
    """When an alert is raised that watches a number."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    warning: Annotated[float | None, Off()]
    """Beyond it the alert is a warning; "off" for never."""
    critical: Annotated[float | None, Off()]
    """Beyond it the alert is critical; "off" for never."""
    hysteresis: Annotated[float, Ge(0), Le(1000000)]
    """How far back behind the limit it is over."""
    raise_after: Duration
    """How long it has to be so before the alert is raised."""
    clear_after: Duration
    """How long it has to be over before the alert is cleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimits:
    """When an alert is raised that watches a number of bytes."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    warning: Annotated[Size | None, Off()]
    """Beyond it the alert is a warning; "off" for never."""
    critical: Annotated[Size | None, Off()]
    """Beyond it the alert is critical; "off" for never."""
    hysteresis: Size
    """How far back behind the limit it is over."""
    raise_after: Duration
    """How long it has to be so before the alert is raised."""
    clear_after: Duration
    """How long it has to be over before the alert is cleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationLimits:
    """When an alert is raised that watches how long something has been so."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    warning: Annotated[Duration | None, Off()]
    """Beyond it the alert is a warning; "off" for never."""
    critical: Annotated[Duration | None, Off()]
    """Beyond it the alert is critical; "off" for never."""
    hysteresis: Duration
    """How far back behind the limit it is over."""
    raise_after: Duration
    """How long it has to be so before the alert is raised."""
    clear_after: Duration
    """How long it has to be over before the alert is cleared."""


Limits = NumberLimits | SizeLimits | DurationLimits


def _numbers(name: str) -> NumberLimits:
    return NumberLimits(**_amounts(name, plain_number), **_durations_of(name))


def _sizes(name: str) -> SizeLimits:
    return SizeLimits(**_amounts(name, Size), **_durations_of(name))


def _durations(name: str) -> DurationLimits:
    return DurationLimits(**_amounts(name, Duration), **_durations_of(name))


def _amounts(name: str, kind: Callable[[float], Any]) -> dict[str, Any]:
    row = alerts.BY_NAME[name]
    limits = {"warning": row.warning, "critical": row.critical}
    return {key: None if limit is None else kind(limit) for key, limit in limits.items()} | {
        "hysteresis": kind(row.hysteresis)
    }


def _durations_of(name: str) -> dict[str, Any]:
    row = alerts.BY_NAME[name]
    return {"raise_after": Duration(row.raise_after_s), "clear_after": Duration(row.clear_after_s)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """When to raise the alarm: one section an alert, such as [alerts.queue_length] (docs/MQTT.md)."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    upload_success_rate: Annotated[NumberLimits, _Row("upload_success_rate")] = _numbers("upload_success_rate")
    error_rate: Annotated[NumberLimits, _Row("error_rate")] = _numbers("error_rate")
    queue_length: Annotated[NumberLimits, _Row("queue_length")] = _numbers("queue_length")
    storage: Annotated[SizeLimits, _Row("storage")] = _sizes("storage")
    capture_stalled: Annotated[DurationLimits, _Row("capture_stalled")] = _durations("capture_stalled")
    microphone_missing: Annotated[DurationLimits, _Row("microphone_missing")] = _durations("microphone_missing")
    no_signal: Annotated[NumberLimits, _Row("no_signal")] = _numbers("no_signal")
    clipping: Annotated[NumberLimits, _Row("clipping")] = _numbers("clipping")
    clock_unsynchronised: Annotated[DurationLimits, _Row("clock_unsynchronised")] = _durations("clock_unsynchronised")
    undervoltage: Annotated[NumberLimits, _Row("undervoltage")] = _numbers("undervoltage")
    temperature: Annotated[NumberLimits, _Row("temperature")] = _numbers("temperature")
    disk: Annotated[NumberLimits, _Row("disk")] = _numbers("disk")
    disk_error: Annotated[NumberLimits, _Row("disk_error")] = _numbers("disk_error")
    direct_path: Annotated[DurationLimits, _Row("direct_path")] = _durations("direct_path")
    evicted_unsent: Annotated[NumberLimits, _Row("evicted_unsent")] = _numbers("evicted_unsent")
    credentials: Annotated[DurationLimits, _Row("credentials")] = _durations("credentials")
    custody: Annotated[NumberLimits, _Row("custody")] = _numbers("custody")

    def limits(self, name: str) -> Limits:
        """Those of one alert of the table."""
        limits: Limits = getattr(self, name)
        return limits
