"""`kiosk-recorder status`: what the kiosk is doing, whether that is well, and what to do if it isn't."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from agent.commands import hardware
from agent.commands.kiosk import Kiosk, open_ledger, ordered_hours, process_of
from agent.commands.starting import Role
from agent.commands.times import iso, local
from agent.contract.alerts import Raised
from agent.contract.keys import utc
from agent.contract.metrics import RecorderState
from agent.courier.pen import Pen
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError, with_hint, without_hint
from agent.flags import Variant, read_variants
from agent.hours import Hours, is_open
from agent.ledger import ClockState, Ledger, LedgerDamaged, State, Tally
from agent.settings import Settings
from agent.status import FarEnd, RecorderStatus, read_courier_status, read_status, runtime_directory
from agent.terminal import counted, painter, say, say_json
from agent.units import NS_PER_S, human_bytes, human_seconds

_STALE_S: Final = 8.0
"""The recorder paints its picture about once a second, or every 5 s while the card keeps its writer waiting."""

_HICCUP_S: Final = 60.0
"""Uploads and reports go on within a minute after a cause is gone."""

_DOING: Final[dict[RecorderState, str]] = {
    "starting": "starting",
    "recording": "recording",
    "listening": "listening, nobody speaks",
    "idle": "idle outside the hours of [schedule]",
    "paused": "paused by command",
    "muted": "muted",
    "waiting_for_microphone": "looking for the microphone",
    "spool_full": "not recording, the spool is full",
    "disk_error": "not recording, the card fails",
    "stopped": "stopping",
}

_WELL: Final = frozenset[RecorderState]({"starting", "recording", "listening", "idle", "paused", "muted", "stopped"})


@dataclass(frozen=True, slots=True)
class Kept:
    """What the ledger knows."""

    tally: dict[State, Tally]
    oldest_pending_s: float | None
    """How long the oldest recording that isn't uploaded has been waiting."""
    last_upload_ns: int | None
    """Wall time."""
    evicted_unsent: int
    clock: ClockState
    """How far this boot's times are to be trusted."""

    @property
    def waiting(self) -> Tally:
        """What isn't uploaded yet."""
        return self.tally.get("pending", Tally())


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong now, and the way out."""

    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the command looks at."""

    recorder_pid: int | None
    courier_pid: int | None
    picture: RecorderStatus | None
    """The running recorder's last one."""
    picture_age_s: float
    since_ns: int
    """Wall time at which its state began."""
    uploads_due: bool
    """Whether uploads may run at this hour."""
    kept: Kept | None
    ledger_trouble: KioskError | None
    far_ends: Mapping[str, FarEnd] = field(default_factory=dict)
    """What is wrong with store and broker, as the running courier says."""
    now_ns: int = 0
    """Monotonic time of the look."""
    alerts: Mapping[str, Raised] = field(default_factory=dict)
    """What the running courier has raised, by name."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """What is chosen, by flag: by the running recorder's word, or as the next one would find it."""
    ordered_hours: tuple[Hours, ...] | None = None
    """For uploads, by command."""
    recipients_since_ns: int = 0
    """Wall time: when the command was issued that named them, or when the recorder read the file that did."""


def status(kiosk: Kiosk, *, as_json: bool) -> int:
    """Print the situation. Raises KioskError when this user may not look."""
    if as_json:
        told = document(kiosk)
        say_json(told)
        return EXIT_GOOD if told["good"] else EXIT_FOUND_WRONG
    situation = look(kiosk)
    wrong = list(troubles(situation, kiosk.settings))
    _print(situation, wrong, kiosk, hardware.lines(hardware.look(kiosk.settings.spool.path), kiosk.zone))
    return EXIT_FOUND_WRONG if wrong else EXIT_GOOD


def document(kiosk: Kiosk) -> dict[str, Any]:
    """All of it for programs. Raises KioskError when this user may not look."""
    situation = look(kiosk)
    machine = hardware.look(kiosk.settings.spool.path)
    wrong = list(troubles(situation, kiosk.settings))
    return _document(situation, wrong, kiosk) | {"hardware": hardware.document(machine)}


def look(kiosk: Kiosk) -> Situation:
    """The situation as the machine shows it. Raises KioskError when this user may not look."""
    now_ns, wall_ns = kiosk.clock.monotonic_ns(), kiosk.clock.wall_ns()
    ordered = ordered_hours(kiosk.settings)
    hours = kiosk.settings.upload.hours if ordered is None else ordered
    recorder_pid = process_of(kiosk.layout, "recorder")
    picture = read_status(runtime_directory())
    if picture is not None and (picture.pid, picture.boot) != (recorder_pid, kiosk.clock.boot):
        picture = None
    courier_pid = process_of(kiosk.layout, "courier")
    told = read_courier_status(runtime_directory())
    running = told if told and (told.pid, told.boot) == (courier_pid, kiosk.clock.boot) else None
    kept: Kept | None = None
    ledger_trouble: KioskError | None = None
    try:
        with open_ledger(kiosk) as ledger:
            kept = _account(ledger, kiosk)
    except LedgerDamaged as damage:
        ledger_trouble = damage
    except KioskError as error:
        # One that isn't there yet is a matter of whether the recorder runs.
        if not error.retryable:
            raise
    return Situation(
        recorder_pid,
        courier_pid,
        picture,
        (now_ns - picture.updated_ns) / NS_PER_S if picture else 0.0,
        wall_ns - now_ns + picture.since_ns if picture else 0,
        is_open(replace(kiosk.settings.upload, hours=hours).week, kiosk.zone, utc(wall_ns)),
        kept,
        ledger_trouble,
        running.far_ends if running else {},
        now_ns,
        running.alerts if running else {},
        picture.flags if picture else read_variants(runtime_directory(), kiosk.layout.state),
        ordered,
        0 if picture is None else picture.rotated_ns or wall_ns - now_ns + picture.began_ns,
    )


def _account(ledger: Ledger, kiosk: Kiosk) -> Kept:
    boots = {boot.boot: boot for boot in ledger.boots()}
    oldest = next(ledger.kept("pending", limit=1), None)
    boot = boots.get(oldest.boot) if oldest else None
    waited_ns = ledger.now_ns() - boot.offset_ns - oldest.end_ns if oldest and boot else None
    now = boots.get(kiosk.clock.boot)
    return Kept(
        ledger.tally(),
        None if waited_ns is None else max(0, waited_ns) / NS_PER_S,
        ledger.last_acknowledged_ns(),
        int(ledger.counters().get("evicted_unsent_total", 0)),
        now.clock if now else "unsynchronised",
    )


def troubles(situation: Situation, settings: Settings) -> Iterator[Trouble]:
    """What a person should look after, most pressing first."""
    found = list(_found(situation, settings))
    yield from found
    yield from _alerts(situation, found)


def _found(situation: Situation, settings: Settings) -> Iterator[Trouble]:
    yield from _recorder_troubles(situation)
    if situation.ledger_trouble is not None:
        cause = f"the ledger can't be read: {situation.ledger_trouble.cause}"
        yield Trouble(cause, "restart the recorder: it sets the ledger aside and makes a new one from the spool")
    speaks = bool(settings.upload.target or settings.mqtt.url)
    if speaks and situation.courier_pid is None:
        yield Trouble("the courier isn't running: nothing is uploaded or reported", _start("courier"))
    yield from _far_troubles(situation)
    kept = situation.kept
    if kept is None:
        return
    many = settings.alerts.queue_length.critical
    if settings.upload.target and situation.uploads_due and many is not None and kept.waiting.count > many:
        yield Trouble(
            f"{kept.waiting.count} recordings wait to be uploaded",
            "`kiosk-recorder config check --online` tries the store",
        )
    if kept.tally.get("damaged"):
        yield Trouble("recordings are damaged on the card", "`kiosk-recorder verify` names them; the card may be dying")


def _alerts(situation: Situation, told: Iterable[Trouble]) -> Iterator[Trouble]:
    """What is raised, but for what was told before in the same words."""
    known = {trouble.what for trouble in told}
    for name, raised in situation.alerts.items():
        what, hint = without_hint(raised.text)
        if what not in known:
            yield Trouble(f"{raised.severity}, {name}: {what}", hint)


def _far_troubles(situation: Situation) -> Iterator[Trouble]:
    """A hiccup of the network is no trouble; one that lasts is. Both paths lead to one store."""
    told = {end.trouble: end for end in situation.far_ends.values()}
    for end in told.values():
        lasting_s = (situation.now_ns - end.since_ns) / NS_PER_S
        if lasting_s >= _HICCUP_S:
            what, hint = without_hint(end.trouble)
            yield Trouble(f"for {human_seconds(lasting_s)}: {what}", hint)


def _recorder_troubles(situation: Situation) -> Iterator[Trouble]:
    picture = situation.picture
    if situation.recorder_pid is None:
        yield Trouble("the recorder isn't running: nothing is recorded", _start("recorder"))
    elif picture is None:
        yield Trouble(
            f"the recorder (process {situation.recorder_pid}) doesn't say what it does",
            "if it has only just begun, ask again; else RUNTIME_DIRECTORY differs between it and this command",
        )
    elif situation.picture_age_s > _STALE_S:
        yield Trouble(
            f"the recorder (process {picture.pid}) has given no sign of life for "
            f"{human_seconds(situation.picture_age_s)}",
            "systemctl restart kiosk-recorder.service",
        )
    elif picture.trouble or picture.state not in _WELL:
        what, hint = without_hint(picture.trouble)
        yield Trouble(what or _DOING[picture.state], hint)


def _start(role: Role) -> str:
    return f"`systemctl start kiosk-{role}.service`, or `kiosk-recorder run` where there are no services"


def _document(situation: Situation, wrong: list[Trouble], kiosk: Kiosk) -> dict[str, Any]:
    picture, kept, spool = situation.picture, situation.kept, kiosk.settings.spool
    recorder: dict[str, Any] = {"pid": situation.recorder_pid}
    if picture is not None:
        recorder |= asdict(picture) | {
            "since": iso(situation.since_ns, kiosk.zone),
            "age_s": round(situation.picture_age_s, 3),
        }
        for name in ("flags", "recipients", "rotated_ns", "began_ns"):
            del recorder[name]
    document: dict[str, Any] = {
        "good": not wrong,
        "troubles": [asdict(trouble) for trouble in wrong],
        "site": kiosk.settings.device.site,
        "device": kiosk.settings.device.id,
        "recorder": recorder,
        "courier": {"pid": situation.courier_pid},
        "spool": {"path": str(spool.path), "cap_bytes": int(spool.cap)},
        "target": kiosk.settings.upload.target,
        "signing_key": Pen(kiosk.settings).public,
        "recipients": picture
        and {
            "keys": picture.recipients,
            "by": "file" if picture.rotated_ns is None else "command",
            "since": iso(situation.recipients_since_ns, kiosk.zone),
        },
        "alerts": {name: asdict(raised) for name, raised in situation.alerts.items()},
        "flags": [
            {"flag": name, "variant": variant.name, "source": variant.source}
            for name, variant in situation.variants.items()
        ],
    }
    if kept is not None:
        last = kept.last_upload_ns
        document |= {
            "kept": {state: asdict(tally) for state, tally in kept.tally.items()},
            "oldest_pending_s": kept.oldest_pending_s,
            "last_upload": None if last is None else iso(last, kiosk.zone),
            "evicted_unsent_total": kept.evicted_unsent,
            "clock": kept.clock,
        }
    return document


def _print(situation: Situation, wrong: list[Trouble], kiosk: Kiosk, machine: Iterable[tuple[str, str]]) -> None:
    paint, settings, picture = painter(), kiosk.settings, situation.picture
    device = settings.device
    if picture is not None and situation.recorder_pid is not None:
        doing = paint(_DOING[picture.state], "red" if wrong else "green")
        doing += f" since {local(situation.since_ns, kiosk.zone)}"
        if picture.quiet_until_ns is not None:
            doing += f", for another {human_seconds(max(0, picture.quiet_until_ns - situation.now_ns) / NS_PER_S)}"
    else:
        doing = paint("not running" if situation.recorder_pid is None else "running", "red")
    say(f"{paint(f'{device.site}/{device.id}', 'bold')}: {doing}")
    pen = Pen(settings)
    custody = [("custody", f"signed by {pen.public}" if pen.public else f"unsigned: {_plain(pen.trouble)}")]
    flags = (("flags", f"{name} is {each.name} ({each.source})") for name, each in situation.variants.items())
    for name, text in (
        *_picture_lines(situation, settings),
        *_kept_lines(situation, kiosk),
        *_recipients_line(situation, kiosk),
        *custody,
        *flags,
        *machine,
    ):
        say(f"  {name:11} {text}")
    for trouble in wrong:
        say(f"{paint('wrong', 'red')}: {with_hint(trouble.what, trouble.hint)}")


def _plain(error: KioskError | None) -> str:
    """One line of it."""
    return f"{error.place or error.operation}: {error.cause}; {error.hint}" if error else ""


def _picture_lines(situation: Situation, settings: Settings) -> Iterator[tuple[str, str]]:
    capture, picture = settings.capture, situation.picture
    microphone = f"{capture.pcm}, {capture.rate} Hz × {capture.channels}, {capture.mode}"
    if picture is None:
        yield "microphone", microphone
        return
    if picture.level_rms_dbfs is not None:
        microphone += f"; level {picture.level_rms_dbfs:.0f} dBFS, peak {picture.level_peak_dbfs:.0f} dBFS"
    if picture.clipped_pct:
        microphone += f", {picture.clipped_pct:g} % clipped"
    yield "microphone", microphone
    name, cap = ("memory", settings.spool.direct_cap) if picture.path == "direct" else ("spool", settings.spool.cap)
    share = 100 * picture.spool_bytes / cap
    spool = f"{human_bytes(picture.spool_bytes)} of {human_bytes(cap)} ({share:.3g} %)"
    yield name, f"{spool}; {picture.segment_seconds:g} s in the open file, {picture.ring_seconds:g} s in memory"


def _recipients_line(situation: Situation, kiosk: Kiosk) -> Iterator[tuple[str, str]]:
    """Who can open what is recorded now."""
    picture = situation.picture
    if picture is None:
        return
    if not picture.recipients:
        yield "recipients", "none: recordings aren't encrypted"
        return
    by = "config.toml" if picture.rotated_ns is None else "command"
    since = local(situation.recipients_since_ns, kiosk.zone)
    yield "recipients", f"{', '.join(picture.recipients)}; by {by}, since {since}"


def _hours_told(situation: Situation) -> str:
    ordered = situation.ordered_hours
    told = "" if ordered is None else f"; ordered by command: {' '.join(map(str, ordered)) or 'always'}"
    return told + ("" if situation.uploads_due else "; outside upload.hours now")


def _kept_lines(situation: Situation, kiosk: Kiosk) -> Iterator[tuple[str, str]]:
    kept, upload = situation.kept, kiosk.settings.upload
    if kept is None:
        return
    waiting = kept.waiting
    text = f"{counted(waiting.count, 'recording')}, {human_seconds(waiting.seconds)}, {human_bytes(waiting.bytes)}"
    if kept.oldest_pending_s is not None:
        text += f"; the oldest for {human_seconds(kept.oldest_pending_s)}"
    yield "waiting", text
    if upload.target:
        last = (
            "nothing uploaded yet" if kept.last_upload_ns is None else f"last {local(kept.last_upload_ns, kiosk.zone)}"
        )
        yield "uploads", f"to {upload.target}; {last}" + _hours_told(situation)
    else:
        yield "uploads", "none: upload.target is empty"
    if kept.evicted_unsent:
        yield "given up", f"{counted(kept.evicted_unsent, 'recording')} before being uploaded, since this ledger began"
    yield "clock", kept.clock
