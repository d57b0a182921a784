"""Whether the broker lets this kiosk in, and whether it lets it do no more than speak for itself.

Nothing that is said here means anything: an alert that isn't raised is cleared once more, on the kiosk's own topic and
on that of a kiosk that doesn't exist.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Final
from urllib.parse import urlsplit

from agent.checkup.finding import Finding, of_error
from agent.checkup.visit import Visit
from agent.contract.alerts import ALERTS
from agent.contract.messages import ROOT, Heard, Topics, cleared
from agent.courier.broker import Answer
from agent.courier.probe import BROKER_S, no_answer, second_line
from agent.errors import KioskError, without_hint
from agent.status import read_courier_status
from agent.units import NS_PER_S

_LISTEN_S: Final = 2.0
"""What a broker has retained comes at once."""

_ACL: Final = "fleet/access/kiosks.acl is the access list that the broker should have (docs/SECURITY.md)"


class Trial:
    """One connection beside the courier's, over which things are tried."""

    def __init__(self, visit: Visit) -> None:
        """Raises KioskError when certificates or password can't be used."""
        self._visit = visit
        self._broker = second_line(visit.settings, lambda: None)
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._broker.answers = self._answers
        self.heard: set[str] = set()
        """Topics on which something came."""
        self._broker.listen(f"{ROOT}/#", self._hear)

    def connect(self) -> KioskError | None:
        """Why there is no connection; None when there is one."""
        self._broker.start()
        deadline_ns = self._visit.clock.monotonic_ns() + round(BROKER_S * NS_PER_S)
        while self._visit.clock.monotonic_ns() < deadline_ns:
            if self._broker.connected or self._broker.refusal is not None:
                return self._broker.refusal
            self._visit.wait(0.02)
        return no_answer(self._visit.settings.mqtt.url)

    def subscribed(self) -> bool | None:
        """Whether hearing everybody was granted; None without an answer."""
        answer = self._answer(None)
        return None if answer is None else not answer.refused

    def say(self, topics: Topics, alert: str) -> str | None:
        """Clear an alert; why that is refused, "" when it isn't, None without an answer."""
        sent = self._broker.publish(cleared(topics, alert))
        if sent is None:
            return "the broker hung up"
        answer = self._answer(sent.mid)
        if answer is None and not self._broker.connected:
            # Some brokers answer a publication that isn't allowed like that.
            return "the broker hung up"
        return None if answer is None else answer.refused

    def close(self) -> None:
        """Hang up."""
        self._broker.stop(None, 1.0)

    def _hear(self, heard: Heard) -> None:
        """On paho's thread."""
        self.heard.add(heard.topic)

    def _answer(self, to: int | None) -> Answer | None:
        """The answer to one publication or to the subscription."""
        deadline_ns = self._visit.clock.monotonic_ns() + round(BROKER_S * NS_PER_S)
        while self._broker.connected and self._visit.clock.monotonic_ns() < deadline_ns:
            try:
                answer = self._answers.get(timeout=0.1)
            except queue.Empty:
                continue
            if answer.to == to:
                return answer
        return None


def look(visit: Visit) -> Iterator[Finding]:
    """Connect, speak for oneself, and try to speak for and to hear others."""
    mqtt = visit.settings.mqtt
    if not mqtt.url:
        yield Finding(
            "connection",
            "yellow",
            "mqtt.url is empty: nobody is told when this kiosk stops recording",
            "write the broker's address into `[mqtt]`",
        )
        return
    if visit.courier_pid is not None:
        yield from _by_the_courier(visit)
        return
    visit.progress(f"connecting to {mqtt.url}")
    try:
        trial = Trial(visit)
    except KioskError as error:
        yield of_error("connection", error)
        return
    try:
        problem = trial.connect()
        if problem is not None:
            yield of_error("connection", problem)
            yield Finding("access list", "grey", "not tried without a connection")
            return
        yield Finding("connection", "green", f"{mqtt.url} let us in")
        yield from _in_clear(mqtt.url)
        yield from _tried(trial, visit)
    finally:
        trial.close()


def _by_the_courier(visit: Visit) -> Iterator[Finding]:
    """While it runs, its word: a broker that knows a kiosk by one connection alone would hang up on it for ours."""
    told = read_courier_status(visit.runtime)
    known = told is not None and (told.pid, told.boot) == (visit.courier_pid, visit.clock.boot)
    end = told.far_ends.get("broker") if told is not None and known else None
    if end is not None:
        what, hint = without_hint(end.trouble)
        yield Finding("connection", "red", f"as the running courier tells: {what}", hint)
    elif known:
        yield Finding("connection", "green", "the running courier has no trouble with it")
    else:
        yield Finding("connection", "grey", "the courier runs, but hasn't told yet how it gets on", "check again")
    yield from _in_clear(visit.settings.mqtt.url)
    yield Finding(
        "access list",
        "grey",
        "not tried while the courier runs, because that could cut its connection",
        "sudo systemctl stop kiosk-courier; sudo kiosk-recorder check --only broker; "
        "sudo systemctl start kiosk-courier",
    )


def _in_clear(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme == "mqtt" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        yield Finding(
            "encryption",
            "yellow",
            "mqtt:// goes in clear: passwords and telemetry can be read on the way",
            "use mqtts://, and `mqtt.ca` for a certificate authority of your own",
        )


def _tried(trial: Trial, visit: Visit) -> Iterator[Finding]:
    device, alert = visit.settings.device, _harmless(visit)
    own = Topics(device.site, device.id)
    stranger = Topics(device.site, f"not-{device.id}"[:63])
    granted = trial.subscribed()
    refused = trial.say(own, alert)
    if refused is None:
        yield Finding("own topics", "grey", "the broker gave no answer to a publication", "check again")
    elif refused:
        yield Finding("own topics", "red", f"{own.alert(alert)}: {refused}", f"let this kiosk write there: {_ACL}")
    else:
        yield Finding("own topics", "green", f"it takes what is said below {own.base}")
    refused = trial.say(stranger, alert)
    if refused is None:
        yield Finding("others' topics", "grey", "the broker gave no answer to a publication", "check again")
    elif refused:
        yield Finding("others' topics", "green", f"speaking for another kiosk is refused ({refused}), as it should be")
    else:
        yield Finding(
            "others' topics",
            "red",
            f"it took something said below {stranger.base}: whoever takes this kiosk can speak for any other",
            f"let each kiosk write below its own name alone: {_ACL}",
        )
    yield _hearing(trial, visit, own, granted=granted)


def _hearing(trial: Trial, visit: Visit, own: Topics, *, granted: bool | None) -> Finding:
    """Whether others can be heard. Many brokers grant the subscription and hold back what comes."""
    subject = "hearing others"
    if granted is None:
        return Finding(subject, "grey", "the broker gave no answer to a subscription", "check again")
    if not granted:
        return Finding(subject, "green", f"a subscription to {ROOT}/# is refused, as it should be")
    visit.wait(_LISTEN_S)
    others = sorted(topic for topic in trial.heard if not topic.startswith((f"{own.base}/", f"{ROOT}/_fleet/")))
    if others:
        return Finding(
            subject,
            "red",
            f"it heard {others[0]} and {len(others) - 1} more: whoever takes this kiosk can watch the others",
            f"let each kiosk read its own commands and {ROOT}/_fleet/# alone: {_ACL}",
        )
    if any(topic.startswith(f"{own.base}/") for topic in trial.heard):
        return Finding(
            subject,
            "yellow",
            f"the broker let it hear {own.base}/#, which it only needs to write; no other kiosk spoke meanwhile",
            f"let each kiosk read its own commands and {ROOT}/_fleet/# alone: {_ACL}",
        )
    return Finding(
        subject, "green", f"nothing of any other kiosk came in {_LISTEN_S:g} s, nor what was said on the own topics"
    )


def _harmless(visit: Visit) -> str:
    """An alert that isn't raised: clearing it says nothing new."""
    told = read_courier_status(visit.runtime)
    raised = told.alerts if told else {}
    return next(alert.name for alert in reversed(ALERTS) if alert.name not in raised)
