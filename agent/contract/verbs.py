"""What a kiosk can be told to do: a closed list. There is no shell, and no verb that takes a path, a host or code.

One table is the source of what kiosks check, of what `kiosk-fleet command` accepts and of docs/COMMANDS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from agent.contract import age
from agent.contract.keys import moment
from agent.hours import Hours, overlaps
from agent.units import Duration, MisreadError

Actor = Literal["courier", "recorder"]

LONGEST_PAUSE_MINUTES: Final = 7 * 24 * 60
LONGEST_MUTE_MINUTES: Final = 24 * 60
LONGEST_IDENTIFY_MINUTES: Final = 60
LONGEST_HURRY_MINUTES: Final = 24 * 60
LONGEST_REASON: Final = 200
_MOST_HOURS: Final = 16


class Kind(Protocol):
    """What an argument may be."""

    @property
    def described(self) -> str:
        """For a person who has to write one."""
        ...

    def holds(self, value: object) -> bool:
        """Whether `value`, as it stands in JSON, is one."""
        ...

    def read(self, text: str) -> Any:  # noqa: ANN401 (whatever JSON can hold)
        """What a person wrote, as it stands in JSON. Raises MisreadError."""
        ...


@dataclass(frozen=True, slots=True)
class Minutes:
    """A whole number of minutes."""

    most: int

    @property
    def described(self) -> str:
        return f"whole minutes, 1 to {self.most}"

    def holds(self, value: object) -> bool:
        return type(value) is int and 1 <= value <= self.most

    def read(self, text: str) -> int:
        # Not `int` alone: that takes "1_0" and digits of other scripts, and as many of them as there are.
        if not (text.isascii() and text.isdecimal() and len(text) <= 9 and self.holds(int(text))):
            raise MisreadError("isn't that many minutes", f"write {self.described}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Text:
    """What stands in JSON as a person writes it."""

    described: str
    wrong: str
    """What is said of one that doesn't fit."""
    fits: Callable[[str], bool]

    def holds(self, value: object) -> bool:
        return isinstance(value, str) and self.fits(value)

    def read(self, text: str) -> str:
        if not self.holds(text):
            raise MisreadError(self.wrong, f"write {self.described}")
        return text


def one_of(*words: str) -> Text:
    """One of a few words."""
    return Text(", ".join(f"`{word}`" for word in words), "isn't one of them", words.__contains__)


def _is_length(text: str) -> bool:
    try:
        return Duration.parse(text) > 0
    except MisreadError:
        return False


def _is_moment(text: str) -> bool:
    try:
        return moment(text) >= 0
    except ValueError:
        return False


_LENGTH: Final = Text("a length such as `10m` or `2h`", "isn't a length of time", _is_length)
_MOMENT: Final = Text("a time in UTC such as `2026-03-01T08:00:00Z`", "isn't such a time", _is_moment)
REASON: Final = Text(
    f"a line of text, {LONGEST_REASON} characters at most",
    "isn't one line",
    lambda text: text.isprintable() and 0 < len(text) <= LONGEST_REASON,
)


@dataclass(frozen=True, slots=True)
class DailyHours:
    """Hours of every day, as `upload.hours` has them; null is nothing of one's own."""

    described: str = "such as `20:00-06:00`, several with commas, `always`, or `file` for what config.toml says"

    def holds(self, value: object) -> bool:
        if value is None:
            return True
        if not isinstance(value, list) or len(value) > _MOST_HOURS:
            return False
        try:
            return not any(overlaps((_parsed(value),) * 7))
        except (MisreadError, TypeError):
            return False

    def read(self, text: str) -> list[str] | None:
        if text == "file":
            return None
        if text == "always":
            return []
        hours = _parsed(text.split(","))
        if len(hours) > _MOST_HOURS or any(overlaps((hours,) * 7)):
            raise MisreadError("share time or are too many", "write stretches that don't overlap")
        return [str(each) for each in hours]


@dataclass(frozen=True, slots=True)
class Recipients:
    """Public keys to encrypt to; none at all would be no encryption, which nobody can order."""

    described: str = "age public keys: `age1…` or `ssh-ed25519 …`, several with commas"

    def holds(self, value: object) -> bool:
        if not isinstance(value, list) or not 1 <= len(value) <= age.MOST_RECIPIENTS or not _distinct(value):
            return False
        try:
            for each in value:
                age.recipient(each)
        except MisreadError:
            return False
        return True

    def read(self, text: str) -> list[str]:
        keys = [key.strip() for key in text.split(",")]
        for key in keys:
            age.recipient(key)
        if not self.holds(keys):
            raise MisreadError("are too many keys, or one twice", f"write up to {age.MOST_RECIPIENTS}, each once")
        return keys


def _distinct(value: list[object]) -> bool:
    return all(isinstance(each, str) for each in value) and len(set(map(str, value))) == len(value)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a verb."""

    name: str
    kind: Kind
    text: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing a kiosk can be told."""

    name: str
    actor: Actor
    """Who verifies and does it; what concerns recording is the recorder's, who has no network."""
    text: str
    arguments: tuple[Argument, ...] = ()
    clash: Callable[[Mapping[str, Any]], str | None] = lambda _: None
    """What is wrong with arguments that are right each for itself; None when nothing is."""

    def wrong_with(self, args: Mapping[str, Any]) -> str | None:
        """What is wrong with the arguments, as they stand in JSON; None when nothing is."""
        known = {argument.name: argument for argument in self.arguments}
        unknown = sorted(args.keys() - known.keys())
        if unknown:
            return f"`{self.name}` has no argument {unknown[0][:40]!r}"
        for name, argument in known.items():
            if name not in args:
                if argument.required:
                    return f"`{self.name}` needs `{name}`: {argument.kind.described}"
            elif not argument.kind.holds(args[name]):
                return f"`{name}` must be {argument.kind.described}"
        return self.clash(args)


def hours_of(value: list[str] | None) -> tuple[Hours, ...] | None:
    """The hours that an argument of `set-upload-hours` names; None for those of the file."""
    return None if value is None else _parsed(value)


def _parsed(texts: list[str]) -> tuple[Hours, ...]:
    return tuple(Hours.parse(text) for text in texts)


def _span_clash(args: Mapping[str, Any]) -> str | None:
    """`erase` needs one span, and one that has a length."""
    if ("last" in args) == ("from" in args):
        return "`erase` needs either `last` or `from`"
    if "to" in args and "from" not in args:
        return "`to` goes with `from`"
    if "to" in args and moment(args["to"]) <= moment(args["from"]):
        return "`to` must be after `from`"
    return None


_ALL: Final = (
    Verb(
        "pause",
        "recorder",
        "stop recording; the microphone is closed, the gap is called `paused`",
        (Argument("minutes", Minutes(LONGEST_PAUSE_MINUTES), "for so long; else until `resume`"),),
    ),
    Verb("resume", "recorder", "end a pause, and a mute that was ordered by command; not one by the button"),
    Verb(
        "mute",
        "recorder",
        "as `pause`, for a privacy reason: it always ends by itself, never early, and the gap is called `muted`",
        (Argument("minutes", Minutes(LONGEST_MUTE_MINUTES), "for so long; else `privacy.mute_minutes`"),),
    ),
    Verb(
        "erase",
        "recorder",
        "remove recordings, whole ones, and tell by a tombstone which of them are in the store",
        (
            Argument("last", _LENGTH, "everything since so long ago"),
            Argument("from", _MOMENT, "or everything from then on"),
            Argument("to", _MOMENT, "until then; else until now"),
            Argument("reason", REASON, "why, for the journal"),
        ),
        clash=_span_clash,
    ),
    Verb(
        "upload-now",
        "courier",
        "upload outside `upload.hours` until what waits now is uploaded",
        (Argument("minutes", Minutes(LONGEST_HURRY_MINUTES), "no longer than this; else a day"),),
    ),
    Verb(
        "restart",
        "recorder",
        "end the processes in good order for systemd to start them again; the machine stays on",
        (Argument("what", one_of("kiosk", "recorder", "courier"), "which; else `kiosk`, which is both"),),
    ),
    Verb(
        "identify",
        "recorder",
        "have the LED flicker, to tell which kiosk it is",
        (Argument("minutes", Minutes(LONGEST_IDENTIFY_MINUTES), "for so long; else one"),),
    ),
    Verb("report", "courier", "publish `birth` and `telemetry` now"),
    Verb(
        "set-upload-hours",
        "courier",
        "upload in these hours whatever config.toml says, until told otherwise; survives restarts",
        (Argument("hours", DailyHours(), "every day, in the kiosk's zone", required=True),),
    ),
    Verb(
        "rotate-recipients",
        "recorder",
        "encrypt what is recorded from now on to other keys, whatever config.toml says; survives restarts",
        (Argument("recipients", Recipients(), "all who may open it; whoever isn't among them can't", required=True),),
    ),
)

VERBS: Final[Mapping[str, Verb]] = MappingProxyType({verb.name: verb for verb in _ALL})


def actor_of(verb: str, args: Mapping[str, Any]) -> Actor:
    """Who has to do it: the courier can end itself, the recorder wouldn't know."""
    if verb == "restart" and args.get("what") == "courier":
        return "courier"
    return VERBS[verb].actor
