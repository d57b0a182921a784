"""What a kiosk tells as an event: the one table that messages, their schema and documentation are made from.

An event tells that something happened, and when; how things are is told by telemetry and alerts. The message is flat:
`id`, `ts`, `event`, and exactly the facts of that event (agent.contract.messages.event).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from agent.contract.alerts import NAMES as ALERT_NAMES
from agent.contract.messages import Severity

Kind = Literal["text", "word", "hex", "time", "integer", "number", "value", "args", "variants", "metrics"]
Source = Literal["alarms", "commands", "flags", "recordings", "courier"]

SOURCES: Final[dict[Source, str]] = {
    "alarms": "the alarms, when they change",
    "commands": "the command desk",
    "flags": "the flag desk",
    "recordings": "the journal of the card's ledger, entry by entry: put into the outbox once, also over restarts and "
    "kills, with an `id` made of epoch and number of the entry. What is recorded in memory is told when the card's "
    "ledger takes it over",
    "courier": "the courier itself",
}
"""What each of them is."""

GAP_REASONS: Final = (
    "overrun",
    "overflow",
    "unplugged",
    "schedule",
    "paused",
    "muted",
    "restart",
    "spool_full",
    "disk_error",
    "power_off",
)
"""Why nothing was recorded. `voice` is no news: in that mode each pause of the speakers is one."""

CLOCKS: Final = ("unsynchronised", "server", "synchronised")

CHANGES: Final = ("raised", "escalated", "eased", "cleared")

LOSSES: Final = ("outbox_full", "memory_full", "outbox_damaged", "journal_gone", "malformed")
"""Why events never arrive."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that an event tells."""

    name: str
    kind: Kind
    """`word` is for programs, `text` for people, `hex` an id. `value` is an alert's: a number, a text or null. `args`
    are a command's arguments, `variants` the variants of flags by their names, `metrics` numbers by names of metrics.
    """
    definition: str
    unit: str = ""
    """As in the metrics table; "" for what has none."""
    null: str = ""
    """When nobody can tell; "" is never."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One name that an event may have."""

    name: str
    source: Source
    definition: str
    facts: tuple[Fact, ...] = ()


_COMMAND: Final = Fact("command", "hex", "id of the command")
_VERB: Final = Fact("verb", "word", "its verb")
_RUN: Final = Fact("run", "hex", "the run that it belongs to")
_SEQ: Final = Fact("seq", "integer", "its place in the run, from 0", "1")
_WHY: Final = Fact("reason", "text", "why")
_BOOT: Final = Fact("boot", "hex", "the boot of the machine")
_CLOCK: Final = Fact("clock", "word", "how far its wall time is to be trusted", choices=CLOCKS)
_REASON: Final = Fact("reason", "word", "why nothing is recorded", choices=GAP_REASONS)
_UNTOLD: Final = "no ledger tells the wall time of that boot"
_SINCE: Final = Fact("since", "time", "when it began", null=_UNTOLD)
_UNTIL: Final = Fact("until", "time", "when it ended", null=_UNTOLD)

EVENTS: Final = (
    Event(
        "alert",
        "alarms",
        "an alert changed; what `alert/{name}` says is news once, and this is it",
        (
            Fact("alert", "word", "its name", choices=ALERT_NAMES),
            Fact("change", "word", "what became of it", choices=CHANGES),
            Fact("severity", "word", "what it has now, or had until it was cleared", choices=get_args(Severity)),
            Fact("since", "time", "since when it has been so"),
            Fact("value", "value", "what it looks at, in its own unit"),
            Fact("threshold", "number", "the limit that was passed, in the same unit", null="it has none"),
        ),
    ),
    Event(
        "command",
        "commands",
        "a command counts and is being carried out",
        (
            _COMMAND,
            _VERB,
            Fact("args", "args", "its arguments"),
            Fact("key", "text", "the public key that signed it"),
        ),
    ),
    Event(
        "command_refused",
        "commands",
        "a command doesn't count. Ten are told at once, then one a minute",
        (
            Fact("command", "hex", "id of the command", null="what came has none that can be read"),
            Fact("verb", "word", "its verb", null="what came has none that can be read"),
            Fact("reason", "word", "why (COMMANDS.md)"),
            Fact("others", "integer", "how many were refused since the last that was told", "1"),
        ),
    ),
    Event(
        "command_failed",
        "commands",
        "a command counted, and what it wanted didn't come about",
        (_COMMAND, _VERB, Fact("reason", "word", "the `error` of its result", null="nothing more is known")),
    ),
    Event(
        "flags",
        "flags",
        "a flag document counts",
        (Fact("version", "integer", "its version", "1"), Fact("variants", "variants", "what is in force now")),
    ),
    Event(
        "flags_refused",
        "flags",
        "a flag document doesn't count. Ten are told at once, then one a minute",
        (
            Fact("reason", "word", "why (FLAGS.md)"),
            Fact("text", "text", "the same for a person"),
            Fact("version", "integer", "the version that none older passes", "1", null="none counted so far"),
        ),
    ),
    Event(
        "epoch_begun",
        "recordings",
        "a ledger was begun: on a new card, or because the one before was lost, and the history before it with it",
        (Fact("epoch", "hex", "its id, as in `custody_head`"),),
    ),
    Event(
        "boot_begun",
        "recordings",
        "the recorder found a new boot of the machine",
        (_BOOT, Fact("since", "time", "when the machine came up"), _CLOCK),
    ),
    Event(
        "clock_corrected",
        "recordings",
        "the wall time of a boot is another one now, and so is that of its recordings that have no key yet",
        (_BOOT, _CLOCK, Fact("since", "time", "when the machine came up, by the new time")),
    ),
    Event(
        "run_begun",
        "recordings",
        "recording began and its first segment is sealed. Not told in voice mode, where each word begins one",
        (
            _RUN,
            _BOOT,
            _SINCE,
            Fact("rate", "integer", "frames per second", "Hz"),
            Fact("channels", "integer", "channels", "1"),
        ),
    ),
    Event(
        "gap_begun",
        "recordings",
        "nothing is recorded, or another reason took over. Told when the ledger first has it: at its end, or after ten "
        "minutes of it. Without `voice`",
        (_REASON, _SINCE),
    ),
    Event(
        "gap_ended",
        "recordings",
        "it is over, or another reason took over. Told with the first segment after it",
        (
            _REASON,
            _SINCE,
            _UNTIL,
            Fact("seconds", "number", "how long it was", "s", null=f"{_UNTOLD}; only after `power_off`"),
        ),
    ),
    Event(
        "truncated",
        "recordings",
        "a power cut or a kill cut a segment short; what was durable by then is sealed",
        (_RUN, _SEQ, Fact("seconds", "number", "audio in it", "s")),
    ),
    Event("evicted", "recordings", "a segment was given up before it was uploaded", (_RUN, _SEQ, _WHY)),
    Event(
        "erased",
        "recordings",
        "a segment was erased because it turned out to lie outside the schedule",
        (_RUN, _SEQ, _WHY),
    ),
    Event(
        "erasure",
        "recordings",
        "people had recordings erased, by command or at the kiosk. Which ones and why, its tombstone tells",
        (
            Fact("order", "hex", "id of the order, as in its tombstone"),
            Fact("segments", "integer", "how many recordings it was about", "1"),
        ),
    ),
    Event("quarantined", "recordings", "a segment is not what was sealed, and was set aside", (_RUN, _SEQ, _WHY)),
    Event("lost", "recordings", "a segment that waited for upload is gone", (_RUN, _SEQ, _WHY)),
    Event(
        "absence",
        "courier",
        "the broker was away for more than five minutes: what telemetry would have told meanwhile. Told on its return, "
        "and for every six hours of the absence; a restart costs what wasn't told yet. A metric that nothing could "
        "tell is left out",
        (
            Fact("since", "time", "when it, or this piece of it, began"),
            Fact("seconds", "number", "how long it was, by the monotonic clock", "s"),
            Fact("looks", "integer", "how many pictures were taken meanwhile", "1"),
            Fact("lowest", "metrics", "the lowest of each gauge"),
            Fact("highest", "metrics", "the highest of each gauge"),
            Fact("last", "metrics", "the last of each gauge"),
            Fact("grown", "metrics", "by how much each counter grew; one that was set back counts from 0"),
        ),
    ),
    Event(
        "events_lost",
        "courier",
        "events that were to be told will never be",
        (
            Fact("reason", "word", "where they were lost", choices=LOSSES),
            Fact("count", "integer", "how many", "1", null="nobody can tell what a damaged outbox held"),
        ),
    ),
)

BY_NAME: Final = {event.name: event for event in EVENTS}


def checked(name: str, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """`facts`, which are exactly those of the table. Raises ValueError for others, and for an unknown event."""
    row = BY_NAME.get(name)
    if row is None:
        raise ValueError(f"not an event of the table: {name}")
    wanted = {fact.name for fact in row.facts}
    if facts.keys() != wanted:
        raise ValueError(f"not the facts of {name}: {sorted(facts.keys() ^ wanted)}")
    return facts
