"""Commands: what an admin tells one kiosk to do, and whether it counts (DESIGN §10).

The document that is signed (agent.contract.signed, kind "command"):

    {"id": "<16 to 64 hex digits, random>", "issued": "<time>", "expires": "<time>", "target": "<site>/<device>",
     "verb": "<agent.contract.verbs>", "args": {…}}

A command is for one kiosk; for a group the fleet's tool signs one each. It's said on `…/cmd` and never retained, lives
for a day at most, and counts once. Courier and recorder judge it by the same pure function, each for itself.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from agent.contract.keys import moment, timestamp
from agent.contract.signed import LONGEST_BYTES, Refused, opened, parsed
from agent.contract.verbs import VERBS
from agent.units import NS_PER_S

LONGEST_LIFE_NS: Final = 24 * 3600 * NS_PER_S
TOLERANCE_NS: Final = 60 * NS_PER_S
"""An admin's clock may be so far ahead of the kiosk's. There is none at the end: whoever needs longer says so."""

REMEMBERED_NS: Final = 30 * 24 * 3600 * NS_PER_S
"""How long past its expiry a command is known: a clock that went back must not bring it back."""

ID: Final = re.compile(r"[0-9a-f]{16,64}")
"""Always used with `fullmatch`."""

_PARTS: Final = frozenset({"id", "issued", "expires", "target", "verb", "args"})

REASONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "malformed": ("isn't a command as this release knows it", "send it with a `kiosk-fleet` of the same release"),
        "unsigned": ("isn't signed", "send it with `kiosk-fleet command`"),
        "wrong_key": (
            "is signed with a key that the kiosk doesn't list",
            "choose another with `--key`, or list this one in `commands.admin_keys` of the kiosk's config.toml",
        ),
        "bad_signature": ("was changed after it was signed", "find out who can publish on the kiosk's topic `cmd`"),
        "retained": (
            "was kept by the broker, so nobody knows when it was said",
            "publish nothing below `cmd` with the retain flag, and empty what is there",
        ),
        "other_target": ("is for another kiosk", "find out who can publish on the kiosk's topic `cmd`"),
        "expired": ("came after its time", "send it again; if that fails, compare the two machines' clocks"),
        "not_yet_valid": ("was issued in the kiosk's future", "compare the two machines' clocks"),
        "clock": (
            "can't be judged: the kiosk doesn't know what time it is",
            "wait until its clock is synchronised, or until it has taken the time from the store (`upload.clock_wait`)",
        ),
        "replayed": (
            "came before",
            "nothing: it was obeyed then, or refused; if you sent it once, somebody repeats it",
        ),
        "unknown_verb": ("has a verb that this kiosk doesn't know", "look at the kiosk's release in its `birth`"),
        "bad_arguments": ("has arguments that its verb doesn't take", "`kiosk-fleet command --help` lists them"),
        "unavailable": (
            "has a verb that this kiosk can't do",
            "nothing: `identify` needs an LED that works, `upload-now` a target",
        ),
        "unanswered": (
            "was given to the recorder, who took no notice and won't any more",
            "is it running? `recorder_state` in telemetry tells; send the command again",
        ),
        "interrupted": (
            "was begun, and the process ended before it could say how it went",
            "look whether it happened, then send it again if it has to be",
        ),
        "muted_in_room": (
            "came while the room is muted by its button, which can't be lifted from afar",
            "wait until the mute ends, or ask somebody in the room to hold the button for 3 s; then send it again",
        ),
        "failed": ("was tried and failed", "the text says why"),
    }
)
"""Why a command wasn't obeyed: what the kiosk says about "it", and what to do about it."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that counts."""

    id: str
    issued_ns: int
    expires_ns: int
    verb: str
    args: Mapping[str, Any]
    key: str
    """The public key that signed it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A payload that isn't obeyed."""

    reason: str
    """One of REASONS."""
    text: str
    id: str | None
    """None: it names none that could be answered."""
    verb: str | None = None

    @property
    def genuine(self) -> bool:
        """Whether one of our admins said this, to whomever and whenever."""
        return self.reason not in ("malformed", "unsigned", "wrong_key", "bad_signature")


def target_of(site: str, device: str) -> str:
    """How a command names the kiosk that it is for."""
    return f"{site}/{device}"


def compose(
    verb: str, args: Mapping[str, Any], *, site: str, device: str, now_ns: int, lifetime_s: float
) -> dict[str, Any]:
    """The document of a new command, to be signed."""
    return {
        "id": secrets.token_hex(16),
        "issued": timestamp(now_ns),
        "expires": timestamp(now_ns + round(lifetime_s * NS_PER_S)),
        "target": target_of(site, device),
        "verb": verb,
        "args": dict(args),
    }


def judge(
    payload: bytes,
    *,
    retained: bool,
    keys: Collection[str],
    target: str,
    now_ns: int | None,
    seen: Callable[[str], bool],
    able: Collection[str],
) -> Command | Refusal:
    """Whether a payload is a command to `target` that counts now.

    `now_ns` is None while the kiosk's clock can't be trusted: then nothing can be said to be fresh. `seen` knows the
    ids that counted before; `able` are the verbs this kiosk can do. Never raises, whatever the payload is.
    """
    try:
        if retained:
            raise _refused("retained")
        return _judged(payload, keys, target, now_ns, seen, able)
    except Refused as refused:
        name, verb = _named(payload)
        return Refusal(refused.reason, str(refused), name, verb)


def judge_again(payload: bytes, *, keys: Collection[str], target: str, able: Collection[str]) -> Command | Refusal:
    """Whether what was kept of a command that counted is still by an admin's hand, whenever it was."""
    try:
        issued_ns = _read(opened("command", payload, keys).document, "")[0].issued_ns
        return _judged(payload, keys, target, issued_ns, lambda _: False, able)
    except Refused as refused:
        name, verb = _named(payload)
        return Refusal(refused.reason, str(refused), name, verb)


def _judged(
    payload: bytes,
    keys: Collection[str],
    target: str,
    now_ns: int | None,
    seen: Callable[[str], bool],
    able: Collection[str],
) -> Command:
    signed = opened("command", payload, keys)
    command, whom = _read(signed.document, signed.key)
    if whom != target:
        raise Refused("other_target", f"it is for {whom[:130]}, this is {target}")
    if now_ns is None:
        raise _refused("clock")
    if command.issued_ns - now_ns > TOLERANCE_NS:
        raise Refused(
            "not_yet_valid", f"it was issued at {timestamp(command.issued_ns)}, here it is {timestamp(now_ns)}"
        )
    if now_ns >= command.expires_ns:
        raise Refused("expired", f"it expired at {timestamp(command.expires_ns)}, here it is {timestamp(now_ns)}")
    if seen(command.id):
        raise _refused("replayed")
    verb = VERBS.get(command.verb)
    if verb is None:
        raise Refused("unknown_verb", f"no verb is called {command.verb[:40]!r}")
    if verb.name not in able:
        raise Refused("unavailable", _UNAVAILABLE.get(verb.name, f"this kiosk can't do `{verb.name}`"))
    wrong = verb.wrong_with(command.args)
    if wrong is not None:
        raise Refused("bad_arguments", wrong)
    return command


_UNAVAILABLE: Final = {
    "identify": "this kiosk has no LED",
}


def _refused(reason: str) -> Refused:
    return Refused(reason, f"it {REASONS[reason][0]}")


def _read(document: dict[str, Any], key: str) -> tuple[Command, str]:
    """The command in a signed document, and for whom it is. Raises Refused (`malformed`)."""
    if document.keys() != _PARTS:
        raise Refused("malformed", f"it must have exactly {', '.join(sorted(_PARTS))}")
    name, target, verb, args = (document[part] for part in ("id", "target", "verb", "args"))
    if not (isinstance(name, str) and ID.fullmatch(name)):
        raise Refused("malformed", "its id isn't one")
    if not (isinstance(target, str) and isinstance(verb, str) and isinstance(args, dict)):
        raise Refused("malformed", "target and verb must be text, args an object")
    issued_ns, expires_ns = _moment(document["issued"]), _moment(document["expires"])
    if not 0 < expires_ns - issued_ns <= LONGEST_LIFE_NS:
        raise Refused("malformed", "it must expire after it was issued, within a day")
    return Command(name, issued_ns, expires_ns, verb, args, key), target


def _moment(text: object) -> int:
    """Nanoseconds since 1970. Raises Refused (`malformed`)."""
    if isinstance(text, str):
        with contextlib.suppress(ValueError):
            return moment(text)
    raise Refused("malformed", "a time isn't one")


def _named(payload: bytes) -> tuple[str | None, str | None]:
    """Id and verb that a payload claims, signed or not: enough to answer whoever sent it, and for nothing else."""
    if len(payload) > LONGEST_BYTES["command"]:
        return None, None
    try:
        document = parsed(payload)
        if isinstance(document.get("signed"), str):
            document = parsed(document["signed"])
    except Refused:
        return None, None
    name, verb = document.get("id"), document.get("verb")
    if not (isinstance(name, str) and ID.fullmatch(name)):
        return None, None
    return name, verb if isinstance(verb, str) and verb in VERBS else None
