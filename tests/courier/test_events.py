from __future__ import annotations

from pathlib import Path

from agent.courier.broker import Broker as Own
from tests.clocks import FakeClock
from tests.courier.listener import Listener, listening
from tests.courier.teller import TOPICS, Teller, connected, line
from tests.servers import Broker
from tests.soundcard import eventually


def versions(listener: Listener) -> list[int]:
    """What was noted, as it arrived, without repeats."""
    once = {message.content["id"]: message.content for message in listener.on("/event")}
    return [content["version"] for content in once.values() if content["event"] == "flags"]


def tell(teller: Teller, clock: FakeClock, own: Own, listener: Listener, wanted: int) -> None:
    """Let time pass until so many different events have arrived."""

    def arrived() -> bool:
        teller.keeper.step()
        teller.events.step(line(own))
        clock.advance(0.5)
        return len(versions(listener)) >= wanted

    eventually(arrived, f"{wanted} events arrive", 120)


def test_an_event_is_on_the_card_before_it_is_told_and_goes_when_the_broker_has_it(
    tmp_path: Path, clock: FakeClock, broker: Broker
) -> None:
    teller = Teller(tmp_path / "kiosk", clock)
    with listening(broker, f"{TOPICS.base}/#") as listener, connected(broker) as own:
        teller.note(1)
        teller.events.step(line(own))
        assert listener.heard == []
        tell(teller, clock, own, listener, 1)
        eventually(lambda: teller.events.step(line(own)) > 1, "it is acknowledged")
        clock.advance(120)
        teller.keeper.step()
    assert versions(listener) == [1]
    again = Teller(tmp_path / "kiosk", clock)
    again.keeper.step()
    assert again.tray.take() is None
