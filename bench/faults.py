"""What goes wrong in a soak, and when: drawn from a seed, spread evenly over the hours."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hw.simulated import RoomClock


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how many an hour, and how long one lasts in seconds of the room."""

    an_hour: float
    shortest_s: float = 0.0
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them; `at_s` and `lasts_s` are seconds of the room."""

    at_s: float
    kind: str
    lasts_s: float


MICROPHONE: Final = {
    "overrun": Kind(2, 0.5, 5),
    "suspend": Kind(1, 5, 300),
    "broken": Kind(1),
    "unplug": Kind(1, 120, 300),
    # Noticed after 2.5 real seconds, which the accelerated room doesn't shorten.
    "freeze": Kind(0.5, 400, 600),
}
"""Events of the simulated room's script."""

NETWORK: Final = {
    "store down": Kind(1, 180, 1800),
    "store busy": Kind(1, 60, 600),
    "store refusing": Kind(1, 60, 900),
    "store cut": Kind(4),
    "broker down": Kind(1, 30, 300),
    "broker cut": Kind(1),
}
"""What happens between the kiosk and its servers."""


def schedule(kinds: Mapping[str, Kind], hours: float, seed: int) -> list[Fault]:
    """Every fault of some hours, in order of time; each kind has one in each equal part of them."""
    chance = random.Random(seed)  # noqa: S311 (a schedule, no secret)
    return sorted(_drawn(kinds, hours * 3600, chance), key=lambda fault: fault.at_s)


def _drawn(kinds: Mapping[str, Kind], seconds: float, chance: random.Random) -> Iterator[Fault]:
    for name, kind in kinds.items():
        count = round(kind.an_hour * seconds / 3600)
        for number in range(count):
            at_s = (number + chance.random()) * seconds / count
            yield Fault(at_s, name, chance.uniform(kind.shortest_s, kind.longest_s))


def script(faults: Iterable[Fault], rate: int) -> list[str]:
    """The microphone's faults as lines of a simulated room's script."""
    return [
        f"at {round(fault.at_s * rate)} {fault.kind}" + (f" {round(fault.lasts_s * rate)}" if fault.lasts_s else "")
        for fault in faults
    ]


class Misfortune:
    """Carries out the network's faults in the room's time: each kind has a way to begin and a way to end."""

    def __init__(
        self,
        clock: RoomClock,
        faults: Iterable[Fault],
        begin: Mapping[str, Callable[[], None]],
        end: Mapping[str, Callable[[], None]],
        happened: Counter[str],
    ) -> None:
        """`happened` counts what was carried out.

        Of two faults of one server that overlap the later one begins when the earlier one has ended.
        """
        self._clock = clock
        self._faults = list(faults)
        self._begin = begin
        self._end = end
        self._happened = happened
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=([fault for fault in self._faults if fault.kind in own],))
            for own in _by_server(begin)
        ]

    def start(self) -> None:
        """Begin now: the faults' times count from here."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End what is under way. Raises what went wrong with the servers themselves."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _guarded(self, faults: list[Fault]) -> None:
        try:
            self._carry_out(faults)
        except BaseException as error:  # noqa: BLE001 (raised by `stop`, whatever it is)
            self._failure = error

    def _carry_out(self, faults: list[Fault]) -> None:
        began_ns = self._clock.monotonic_ns()
        for fault in faults:
            wait_s = fault.at_s - (self._clock.monotonic_ns() - began_ns) / 1e9
            if self._clock.wait(self._over, max(0.0, wait_s)):
                return
            self._begin[fault.kind]()
            self._happened[fault.kind] += 1
            self._clock.wait(self._over, fault.lasts_s)
            if fault.kind in self._end:
                self._end[fault.kind]()


def _by_server(kinds: Iterable[str]) -> list[set[str]]:
    """Kinds of one server (their first word) follow each other; those of two may coincide."""
    servers: dict[str, set[str]] = {}
    for kind in kinds:
        servers.setdefault(kind.partition(" ")[0], set()).add(kind)
    return list(servers.values())
