"""Tells the fleet that this kiosk is there, who it is and how it is doing."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict

import agent
from agent.contract import messages
from agent.contract.keys import timestamp
from agent.courier.broker import Broker
from agent.courier.measures import Measures
from agent.courier.stock import Stock
from agent.errors import KioskError
from agent.settings import Settings
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

_REBUILD_S = 60.0
_FAREWELL_S = 0.4

_LOOK_S = 5.0
"""How often to look whether there is something to raise an alarm about."""

_UNSAID = "?"
"""At a new connection nobody knows what an earlier one left retained."""


class Reporter:
    """Looks after the connection and publishes. Everything here may fail without harm to the uploads."""

    def __init__(
        self,
        settings: Settings,
        card: Callable[[], Stock | None],
        direct: Callable[[], Stock | None],
        measures: Measures,
        tell: Callable[[KioskError | None], None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """`card` and `direct` take stock of the two paths; `card` may not let a stuck card keep this thread waiting.

        `tell` hears what is wrong with the broker.
        """
        self._settings = settings
        self._card = card
        self._direct = direct
        self._measures = measures
        self._tell = tell
        self._clock = clock
        self._stop = stop
        self._awake = threading.Event()
        self._topics = messages.Topics(settings.device.site, settings.device.id)
        self._session = secrets.token_hex(6)
        self._seq = 0
        self._announced = 0
        """The connection that knows who we are."""
        self._due_ns = 0
        self._alarm = ""
        """What was said about the direct path; empty while all is well, or nothing was said in this session."""

    def wake(self) -> None:
        """Have another look now. Called from every thread, and from signal handlers."""
        self._awake.set()

    def run(self) -> None:
        """Report until the process is asked to end, then say goodbye."""
        broker = self._make_broker()
        if broker is None:
            return
        broker.start()
        while not self._stop.is_set():
            self._clock.wait(self._awake, self.step(broker))
            self._awake.clear()
        broker.stop(messages.status(self._topics, online=False), _FAREWELL_S)

    def step(self, broker: Broker) -> float:
        """Publish what is due; seconds until something will be again."""
        if not broker.alive:
            raise KioskError("report", place=self._settings.mqtt.url, cause="the thread of the connection died")
        now_ns = self._clock.monotonic_ns()
        session = broker.session
        if session and session != self._announced:
            broker.publish(messages.status(self._topics, online=True))
            broker.publish(messages.birth(self._topics, self._facts()))
            self._announced = session
            self._due_ns = now_ns
            self._alarm = _UNSAID
        self._tell(None if session else broker.refusal)
        if session:
            self._raise_alarm(broker)
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + round(messages.TELEMETRY_EVERY_S * NS_PER_S)
            # Also without a connection: the rates of the last hour live from being looked at.
            values = self._measures.read(self._card(), self._direct())
            # Not on a connection that came up meanwhile: there it would be said again after the birth.
            if session and broker.session == session:
                broker.publish(messages.telemetry(self._topics, values, wall_ns=self._clock.wall_ns(), seq=self._seq))
                self._seq += 1
        return min(_LOOK_S, (self._due_ns - now_ns) / NS_PER_S)

    def _raise_alarm(self, broker: Broker) -> None:
        """Say that recordings don't go to the card although they should, as long as that is so."""
        recorder = self._measures.recorder()
        alarm = recorder.detour if recorder is not None and recorder.path == "direct" else ""
        if recorder is None or alarm == self._alarm:
            return
        if alarm:
            since_ns = self._clock.wall_ns()
            broker.publish(
                messages.alert(self._topics, "direct_path", severity="critical", since_ns=since_ns, text=alarm)
            )
        else:
            broker.publish(messages.cleared(self._topics, "direct_path"))
        self._alarm = alarm

    def _make_broker(self) -> Broker | None:
        """The broker, as soon as its certificates and password can be used; None when asked to end before."""
        will = messages.status(self._topics, online=False)
        told = ""
        while not self._stop.is_set():
            try:
                return Broker(self._settings.mqtt, self._settings.device.id, will, self.wake)
            except KioskError as error:
                self._tell(error)
                if str(error) != told:
                    log.error("no report to the fleet: %s", error)  # noqa: TRY400 (it says all a person needs)
                told = str(error)
            self._clock.wait(self._awake, _REBUILD_S)
        return None

    def _facts(self) -> dict[str, object]:
        capture = self._settings.capture
        return {
            "ts": timestamp(self._clock.wall_ns()),
            "boot": self._clock.boot,
            "session": self._session,
            "groups": list(self._settings.device.groups),
            "versions": {
                "kiosk-recorder": agent.__version__,
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
            "capture": {
                "format": "flac",
                "rate": capture.rate,
                "channels": capture.channels,
                "mode": capture.mode,
                "segment_seconds": self._settings.spool.segment_seconds,
            },
            "configuration": configuration_digest(self._settings),
        }


def configuration_digest(settings: Settings) -> str:
    """SHA-256 over all settings: two kiosks show the same one only if they are configured alike, names included."""
    plain = json.dumps(asdict(settings), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()
