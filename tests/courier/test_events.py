from __future__ import annotations

import gc
import os
import signal
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from agent.contract.messages import Message
from agent.courier.broker import Broker as Own
from agent.courier.broker import Sent
from agent.courier.tray import MOST_READY
from agent.units import NS_PER_S
from tests.clocks import FakeClock
from tests.courier.listener import Listener, listening
from tests.courier.teller import TOPICS, Teller, connected, line
from tests.servers import Broker, free_ports, mosquitto
from tests.soundcard import eventually

if TYPE_CHECKING:
    import pytest

WEEK_MINUTES = 7 * 24 * 60


def versions(*listeners: Listener) -> list[int]:
    """What was noted, as it arrived, without repeats."""
    once = {message.content["id"]: message.content for each in listeners for message in each.on("/event")}
    return [content["version"] for content in once.values() if content["event"] == "flags"]


def told(teller: Teller, clock: FakeClock, own: Own, *listeners: Listener, wanted: int) -> None:
    """Let time pass until so many events have arrived."""

    def arrived() -> bool:
        teller.keeper.step()
        for _ in range(10):
            known = teller.tray.told
            for _ in range(50):
                # Of the planned half second so much is real as the broker needs.
                teller.events.step(line(own))
                if teller.tray.told != known:
                    break
                time.sleep(0.001)
            clock.advance(0.5)
        return sum(len(each.heard) for each in listeners) >= wanted

    eventually(arrived, f"{wanted} events arrive", 120)


def drain(teller: Teller, clock: FakeClock, own: Own) -> None:
    """Let time pass until the broker has everything, and the card knows."""

    def done() -> bool:
        clock.advance(1)
        teller.keeper.step()
        return teller.events.step(line(own)) > 1

    eventually(done, "everything is acknowledged")
    clock.advance(120)
    teller.keeper.step()


def test_an_event_is_on_the_card_before_it_is_told_and_goes_when_the_broker_has_it(
    tmp_path: Path, clock: FakeClock, broker: Broker
) -> None:
    teller = Teller(tmp_path / "kiosk", clock)
    with listening(broker, TOPICS.event) as listener, connected(broker) as own:
        teller.note(1)
        teller.events.step(line(own))
        assert listener.heard == []
        told(teller, clock, own, listener, wanted=1)
        drain(teller, clock, own)
    assert versions(listener) == [1]
    again = Teller(tmp_path / "kiosk", clock)
    again.keeper.step()
    assert again.tray.take() is None


def test_after_a_week_without_a_broker_everything_arrives_in_order_at_a_bounded_rate_and_memory_stays_flat(
    tmp_path: Path,
    clock: FakeClock,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[[str], None],
) -> None:
    teller = Teller(tmp_path / "kiosk", clock)
    held: list[int] = []
    tracemalloc.start()
    for minute in range(WEEK_MINUTES):
        teller.note(minute)
        clock.advance(60)
        if minute % 30 == 29:
            teller.keeper.step()
        if minute % 1440 == 1439:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    said: list[int] = []
    tracemalloc.stop()
    with listening(broker, TOPICS.event) as listener, connected(broker) as own:
        publish = own.publish

        def counted(message: Message) -> Sent | None:
            said.append(clock.monotonic_ns())
            return publish(message)

        monkeypatch.setattr(own, "publish", counted)
        told(teller, clock, own, listener, wanted=WEEK_MINUTES)
        drain(teller, clock, own)
    assert versions(listener) == list(range(WEEK_MINUTES))
    assert len({message.content["id"] for message in listener.heard}) == WEEK_MINUTES
    times = [message.content["ts"] for message in listener.heard]
    assert times == sorted(times)
    assert max(Counter(said).values()) <= 10
    assert min(later - sooner for sooner, later in pairwise(sorted(set(said)))) >= NS_PER_S // 2
    tell(
        f"outbox: a week of {WEEK_MINUTES} events, {teller.path.stat().st_size / 2**20:.1f} MiB on the card, told in "
        f"{len(set(said)) / 120:.0f} min; memory held after each day "
        f"{', '.join(f'{each / 1024:.0f}' for each in held)} KiB"
    )
    assert held[-1] < held[1] + 16 * 1024


def test_a_courier_that_starts_anew_tells_what_the_card_holds_before_what_is_new(
    tmp_path: Path, clock: FakeClock, broker: Broker
) -> None:
    first = Teller(tmp_path / "kiosk", clock)
    first.note(*range(3 * MOST_READY))
    first.keeper.step()
    first.keeper.close()
    second = Teller(tmp_path / "kiosk", clock)
    second.note(*range(3 * MOST_READY, 3 * MOST_READY + 5))
    with listening(broker, TOPICS.event) as listener, connected(broker) as own:
        told(second, clock, own, listener, wanted=3 * MOST_READY + 5)
    assert versions(listener) == list(range(3 * MOST_READY + 5))


def test_a_broker_that_is_restarted_in_the_middle_costs_nothing_and_no_order(tmp_path: Path, clock: FakeClock) -> None:
    (port,) = free_ports(1)
    teller = Teller(tmp_path / "kiosk", clock)
    teller.note(*range(300))
    with ExitStack() as stack:
        with mosquitto(tmp_path, port=port) as first, listening(first, TOPICS.event) as before:
            own = stack.enter_context(connected(first))
            told(teller, clock, own, before, wanted=75)
            teller.note(*range(300, 320))
            teller.events.step(line(own))
            os.kill(first.pid, signal.SIGTERM)
            eventually(lambda: own.session == 0, "the broker is gone")
        for _ in range(5):
            teller.keeper.step()
            teller.events.step(line(own))
            clock.advance(60)
        with mosquitto(tmp_path, port=port) as second, listening(second, TOPICS.event) as after:
            eventually(lambda: own.session > 0, "it is back", 60)
            told(teller, clock, own, before, after, wanted=320)
            drain(teller, clock, own)
        own.stop(None, 1)
    assert versions(before, after) == list(range(320))


def test_a_broker_that_refuses_events_gets_them_when_it_takes_them(tmp_path: Path, clock: FakeClock) -> None:
    (port,) = free_ports(1)
    rules = tmp_path / "rules"
    rules.write_text("topic read kiosk/#\n")
    teller = Teller(tmp_path / "kiosk", clock)
    teller.note(1, 2, 3)
    options = f"allow_anonymous true\nacl_file {rules}"
    with mosquitto(tmp_path, options, port=port) as server, connected(server) as own:
        teller.keeper.step()
        teller.events.step(line(own))
        eventually(lambda: teller.events.step(line(own)) > 1 and teller.tray.told == 0, "they are answered")
        clock.advance(120)
        teller.keeper.step()
    again = Teller(tmp_path / "kiosk", clock)
    with (
        mosquitto(tmp_path, port=port) as server,
        listening(server, TOPICS.event) as listener,
        connected(server) as own,
    ):
        told(again, clock, own, listener, wanted=3)
    assert versions(listener) == [1, 2, 3]


def test_what_cannot_be_said_keeps_no_other_event(tmp_path: Path, clock: FakeClock, broker: Broker) -> None:
    teller = Teller(tmp_path / "kiosk", clock)
    with listening(broker, TOPICS.event) as listener, connected(broker) as own:
        teller.note(1)
        teller.events.note("flags_refused", {"reason": "malformed", "text": "half a \ud800", "version": None})
        teller.events.note("flags", {"version": float("nan"), "variants": {}})
        teller.note(2)
        told(teller, clock, own, listener, wanted=4)
    assert versions(listener) == [1, 2]
    lost = [message.content for message in listener.heard if message.content["event"] == "events_lost"]
    assert [(content["reason"], content["count"]) for content in lost] == [("malformed", 1)] * 2


def test_whoever_notes_never_waits_for_the_card(tmp_path: Path, clock: FakeClock) -> None:
    teller = Teller(tmp_path / "kiosk", clock)
    noting = threading.Thread(target=teller.note, args=range(5000))
    teller.tray.at_card(busy=True)
    noting.start()
    noting.join(30)
    assert not noting.is_alive()
