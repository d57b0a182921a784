"""The courier process: the one place where its objects are built, and its supervision."""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path

import agent
from agent.contract.commands import target_of
from agent.contract.discovery import About
from agent.contract.evaluation import Target as Kiosk
from agent.contract.messages import Topics
from agent.courier.absence import Absence
from agent.courier.activity import Activity
from agent.courier.alarms import Alarms
from agent.courier.book import Book
from agent.courier.conversation import Subject
from agent.courier.crew import Crew
from agent.courier.custodian import Custodian
from agent.courier.deeds import Deeds
from agent.courier.desk import Desk, Judge, able_to
from agent.courier.discovery import Discovery
from agent.courier.events import Events
from agent.courier.flags import FlagDesk
from agent.courier.keeper import Keeper
from agent.courier.mason import Mason
from agent.courier.measures import Measures
from agent.courier.monitor import Monitor
from agent.courier.openings import Openings
from agent.courier.pace import Pace
from agent.courier.pen import Pen
from agent.courier.presence import Presence
from agent.courier.reporter import Reporter
from agent.courier.signs import Signs
from agent.courier.standing import Standing
from agent.courier.stock import Stocktaker, stock_in_memory
from agent.courier.targets import Target, open_target
from agent.courier.telling import Alerts, Telemetry
from agent.courier.textfile import TextFile
from agent.courier.timepiece import trusted_wall_ns
from agent.courier.tray import Tray
from agent.courier.troubles import Troubles
from agent.courier.uploads import Uploads
from agent.courier.worker import Lines, Worker
from agent.errors import EXIT_AGAIN, EXIT_FOUND_WRONG, EXIT_GOOD, KioskError
from agent.ledger import Ledger
from agent.mailbox import Mailbox
from agent.notify import Supervisor
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from agent.status import mark_uploading, runtime_directory
from hw.board import Identity, identity
from hw.clock import Clock
from hw.process import on_request_to_end

log = logging.getLogger(__name__)


_SPOOL_POLL_S = 0.5
_WATCH_S = 5.0
_GOODBYE_S = 1.0
_ATTEMPTS = 4
"""For a manifest in one go: then it waits for its next turn."""


class CourierService:
    """Everything the courier is made of."""

    def __init__(self, settings: Settings, clock: Clock, root: Path = Path("/")) -> None:
        """Raises KioskError for a target or an environment that can't be used. Connects to nothing yet.

        `root` is the machine's.
        """
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._layout = Layout(settings.spool.path)
        runtime = runtime_directory()
        in_memory = settings.on_direct_path(runtime / "direct")
        self._direct = Layout(in_memory.spool.path)
        upload = settings.upload
        self._target = open_target(
            upload.target, endpoint_url=upload.endpoint_url, region=upload.region, connections=upload.parallel
        )
        activity = Activity(clock, partial(mark_uploading, runtime))
        self._runtime = runtime
        self._board = identity(root)
        self._openings = Openings(settings)
        self._restarting = False
        self._supervisor = Supervisor()
        self._troubles = Troubles(runtime, clock)
        self._uploads: dict[str, Uploads] = {}
        """From the card and, while it can't be used, from memory."""
        self._pen = Pen(settings)
        self._custodian: Custodian | None = None
        self._mason: Mason | None = None
        if self._target is not None:
            pace = Pace(upload.max_rate, clock, self._stop)
            for name, chosen in (("card", settings), ("direct", in_memory)):
                lines = Lines(stop=self._stop)
                tell = partial(self._troubles.tell, name)
                if name == "card":
                    self._mason = Mason(*self._in_custody(self._target, pace, lines))
                    if self._pen.public:
                        self._custodian = Custodian(*self._in_custody(self._target, pace, lines))
                self._uploads[name] = Uploads(chosen, self._target, lines, pace, activity, clock, tell, self._openings)
        self._stocktaker = Stocktaker(self._layout, clock, self._stop)
        self._flags = FlagDesk(
            settings.flags.keys, _target(settings, self._board), self._layout, runtime, clock, self._stop
        )
        self._alarms = Alarms(settings.alerts, clock, self._troubles.earlier())
        self._monitor = Monitor(
            self._stocktaker.ask,
            lambda: stock_in_memory(self._direct, clock),
            Measures(
                settings, activity, clock, runtime, self._openings, lambda: self._flags.in_force, root, self._pen.head
            ),
            Signs(settings.spool.keep_free, lambda: self._troubles.refusal, clock),
            self._alarms,
            clock,
            self._stop,
        )
        self._flags.changed = self._monitor.look_now
        textfile = settings.export.textfile
        keepers = [] if textfile is None else [TextFile(textfile, settings.device).write]
        self._monitor.keepers = [lambda _picture, raised: self._troubles.alarm(raised), *keepers]
        self._tray = Tray(clock)
        self._keeper = Keeper(self._layout, self._tray, clock, self._stop)
        self._reporter = self._make_reporter() if settings.mqtt.url else None

    def run(self) -> int:
        """Upload and report until SIGTERM or SIGINT. The exit status: not good only when a thread died."""
        on_request_to_end(self.stop)
        if not self._wait_for_spool():
            return EXIT_GOOD
        lock = self._lock()
        self._troubles.paint()
        crew = Crew(self._stop)
        if self._target is None:
            log.info("no `upload.target`: recordings stay in the spool")
        else:
            log.info("uploads go to %s", self._target.describe())
        for name, uploads in self._uploads.items():
            uploads.start(crew, name)
        if self._pen.trouble is not None:
            log.warning("custody is unsigned: %s", self._pen.trouble)
        if self._custodian is not None:
            crew.start("custodian", partial(self._custodian.run, self._stop))
        if self._mason is not None:
            crew.start("mason", partial(self._mason.run, self._stop))
        crew.start("stocktaker", self._stocktaker.run)
        crew.start("flags", self._flags.run)
        crew.start("monitor", self._monitor.run)
        if self._reporter is not None:
            crew.start("outbox", self._keeper.run)
            self._reporter.start(crew)
        self._supervise()
        self._say_goodbye(crew)
        lock.close()
        if crew.casualty:
            return EXIT_FOUND_WRONG
        return EXIT_AGAIN if self._restarting else EXIT_GOOD

    def once(self) -> int:
        """Upload what is due now. Raises KioskError when the store doesn't take it; nothing is lost by that."""
        on_request_to_end(self.stop)
        waiting = [uploads for name, uploads in self._uploads.items() if name == "card" or uploads.ready]
        Ledger(self._layout.ledger, self._clock).close()
        lock = InstanceLock(self._layout, "courier")
        crew = Crew(self._stop)
        try:
            if not waiting:
                raise KioskError("upload once", cause="there is no `upload.target`", hint="set one")
            troubles = [uploads.once(crew) for uploads in waiting]
            while self._custodian is not None and self._custodian.step():
                pass
            while self._mason is not None and self._mason.step():
                pass
        finally:
            self._stop.set()
            self._say_goodbye(crew)
            lock.close()
        return EXIT_FOUND_WRONG if any(troubles) or crew.casualty else EXIT_GOOD

    def stop(self) -> None:
        """Ask everything to end."""
        self._stop.set()
        for uploads in self._uploads.values():
            uploads.stop()
        self._stocktaker.wake()
        self._flags.wake()
        self._monitor.wake()
        self._keeper.wake()
        if self._reporter is not None:
            self._reporter.wake()

    def _in_custody(self, target: Target, pace: Pace, lines: Lines) -> tuple[Settings, Layout, str, Worker, Pen, Clock]:
        # Its attempts aren't counted: what telemetry says of uploads is about recordings.
        activity, standing = Activity(self._clock), Standing(self._clock)
        worker = Worker(target, pace, lines, activity, standing, self._clock, attempts=_ATTEMPTS)
        return self._settings, self._layout, target.prefix, worker, self._pen, self._clock

    def _make_reporter(self) -> Reporter:
        device, monitor = self._settings.device, self._monitor
        topics = Topics(device.site, device.id)
        events = Events(topics, self._tray, self._clock)
        absence = Absence(monitor, events.note, self._clock)
        alerts = Alerts(topics, monitor)
        presence = Presence(
            self._settings, topics, self._board, self._openings, self._clock, self._flags.overridden, self._pen.public
        )
        telemetry = Telemetry(topics, monitor)
        desk = self._make_desk(topics, events, presence, telemetry)
        quick: list[Subject] = [presence, telemetry, alerts, self._flags, absence, events]
        prefix = self._settings.mqtt.discovery_prefix
        about = About(device.site, device.id, agent.__version__, self._board.model, self._board.serial)
        discovery = Discovery(about, prefix, [alerts], self._clock)
        reporter = Reporter(
            self._settings,
            topics,
            quick=[*quick, discovery] if prefix else quick,
            desk=[desk],
            tell=partial(self._troubles.tell, "broker"),
            clock=self._clock,
            stop=self._stop,
        )
        monitor.changed = self._keeper.ready = discovery.asked = desk.noted = reporter.wake
        events.noted = self._keeper.wake
        self._flags.note = self._alarms.note = events.note
        return reporter

    def _make_desk(self, topics: Topics, events: Events, presence: Presence, telemetry: Telemetry) -> Desk:
        settings, book = self._settings, Book(self._layout.state / "commands.db")
        deeds = Deeds(
            Mailbox(self._runtime),
            book,
            self._openings,
            self._monitor,
            telemetry,
            presence.introduce,
            self._restart,
            self._clock,
        )
        judge = Judge(
            target_of(settings.device.site, settings.device.id),
            frozenset(settings.commands.admin_keys),
            able_to(has_target=self._target is not None, has_light=settings.gpio.led != 0),
            partial(trusted_wall_ns, self._clock, (self._layout, self._direct)),
            book,
        )
        return Desk(topics, judge, deeds, self._openings, events, self._clock)

    def _restart(self) -> None:
        self._restarting = True
        self.stop()

    def _supervise(self) -> None:
        """Feed the watchdog while everything turns that never waits for card or network."""
        pulses = [self._monitor.pulse, *([self._reporter.pulse] if self._reporter else [])]
        while not self._stop.is_set():
            missed = next(filter(None, (pulse.missed for pulse in pulses)), "")
            if missed:
                self._supervisor.stuck(missed)
            else:
                self._supervisor.getting_on(self._troubles.first)
            self._clock.wait(self._stop, _WATCH_S)
        self._supervisor.stopping()

    def _wait_for_spool(self) -> bool:
        """Wait until the recorder has made one, on the card or in memory; False when asked to end before."""
        told = False
        while not self._stop.is_set():
            try:
                if self._layout.state.is_dir() or self._direct.state.is_dir():
                    return True
            except PermissionError:
                # There is one, out of sight: the lock tells what to do about it.
                return True
            if not told:
                log.info("waiting for the recorder: there is no spool in %s yet", self._layout.root)
            told = True
            self._supervisor.getting_on("waiting for the recorder to make a spool")
            self._clock.wait(self._stop, _SPOOL_POLL_S)
        return False

    def _lock(self) -> InstanceLock:
        """One courier: told by the card, or by memory where the card can't. Raises KioskError."""
        try:
            return InstanceLock(self._layout, "courier")
        except OSError as error:
            trouble = KioskError(
                "use spool",
                place=str(self._layout.root),
                cause=error.strerror or str(error),
                hint="run this as root or as the kiosk's own user; if that's done, look at the card",
            )
            if not self._direct.state.is_dir():
                raise trouble from error
        log.warning("%s", trouble)
        return InstanceLock(self._direct, "courier")

    def _say_goodbye(self, crew: Crew) -> None:
        self.stop()
        crew.join(_GOODBYE_S)
        if self._target is not None:
            self._target.close()


def _target(settings: Settings, board: Identity) -> Kiosk:
    """This kiosk, as the rules of flag documents see it."""
    device = settings.device
    return Kiosk(
        device=device.id,
        site=device.site,
        groups=device.groups,
        model=board.model or "",
        version=agent.__version__,
    )
