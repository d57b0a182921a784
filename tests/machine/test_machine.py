"""A bare Debian becomes a kiosk, and lives through what happens to one: real kernel, systemd, sound card and disk.

Each test takes the kiosk from the one before and leaves one that records: it is booted as often as its power is cut.
A test that is run alone installs one first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pytest

from tests.machine.kiosk import COURIER, PLAIN, RECORDER, SEALED, SPOOL, Kiosk
from tests.machine.probe import tried
from tests.machine.release import Release
from tests.machine.sound import RATE, assert_played, sounds

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

_WHOLE_S: Final = 19
"""Of twenty seconds. `arecord` hears the same of the loopback: while a player ends, silence instead of its last samples
and then a piece of its buffer that had sounded before, together up to a tenth of a second."""

_DRIVER: Final = "/sys/bus/platform/drivers/snd_aloop"
_BACK_S: Final = 5.0
"""docs/GUARANTEES.md: how soon recording goes on when the microphone is back."""

_LOST_S: Final = 4.0
_PAGE, _CHUNK = 4096, 65536
"""docs/GUARANTEES.md: what a power cut may cost in time, and in bytes of FLAC: plain, encrypted."""

_BYTES_PER_S: Final = 2 * RATE
"""Of noise: FLAC can't shrink it."""


def test_a_disk_that_install_sh_wrote_is_a_kiosk_from_its_first_boot_on(kiosk: Kiosk) -> None:
    for unit in (RECORDER, COURIER):
        assert kiosk.property(unit, "Type") == "notify"
        assert kiosk.property(unit, "ActiveState") == "active"
        assert kiosk.property(unit, "NRestarts") == "0"


def test_what_is_played_to_the_card_arrives_in_the_store_bit_for_bit(kiosk: Kiosk) -> None:
    kiosk.speak(20)
    heard = kiosk.until_heard(_WHOLE_S * RATE)
    np.testing.assert_array_equal(heard[: _WHOLE_S * RATE], kiosk.noise[: _WHOLE_S * RATE])


def test_who_hears_the_room_reaches_nobody(kiosk: Kiosk) -> None:
    kiosk.until_something_is_sealed()
    assert tried(kiosk, RECORDER) == {
        "reach the store": "OSError",
        "make an IPv4 socket": "OSError",
        "make an IPv6 socket": "OSError",
        "make a packet socket": "OSError",
        "make a netlink socket": "OSError",
        "open the microphone": "done",
        "read a recording": "done",
        "change a recording": "done",
        "make a recording": "done",
        "remove a recording": "done",
        "write to state": "done",
        "write to the system": "OSError",
    }


def test_who_reaches_the_store_hears_nothing_and_changes_no_recording(kiosk: Kiosk) -> None:
    kiosk.until_something_is_sealed()
    assert tried(kiosk, COURIER) == {
        "reach the store": "done",
        "make an IPv4 socket": "done",
        "make an IPv6 socket": "done",
        "make a packet socket": "OSError",
        "make a netlink socket": "OSError",
        "open the microphone": "FileNotFoundError",
        "read a recording": "done",
        "change a recording": "PermissionError",
        "make a recording": "OSError",
        "remove a recording": "OSError",
        "write to state": "done",
        "write to the system": "OSError",
    }


def test_a_microphone_that_was_unplugged_is_heard_again_once_it_is_back(kiosk: Kiosk) -> None:
    kiosk.guest.run(f"echo snd_aloop.0 >{_DRIVER}/unbind")
    kiosk.guest.until("grep waiting_for_microphone /run/kiosk-recorder/recorder.json", 120)
    plugged = kiosk.now()
    kiosk.guest.run(f"echo snd_aloop.0 >{_DRIVER}/bind")
    back = kiosk.now()
    kiosk.until_it_records()
    kiosk.speak(5)
    heard = kiosk.until_heard(4 * RATE, since=plugged)
    np.testing.assert_array_equal(heard[: 4 * RATE], kiosk.noise[: 4 * RATE])
    (gap,) = [interval for interval in kiosk.timeline() if interval.reason == "unplugged"]
    assert gap.begin < plugged
    assert (gap.end - back).total_seconds() <= _BACK_S
    assert kiosk.property(RECORDER, "NRestarts") == "0"


def test_a_process_that_hangs_is_ended_by_the_watchdog_and_started_again(kiosk: Kiosk) -> None:
    hanging = {unit: kiosk.property(unit, "MainPID") for unit in (RECORDER, COURIER)}
    kiosk.guest.run(f"kill -STOP {' '.join(hanging.values())}")
    for unit, process in hanging.items():
        kiosk.guest.until(f"test ! -e /proc/{process}", 300)
        said = kiosk.guest.run(f"journalctl --unit={unit} --output=cat --boot")
        assert "Watchdog timeout" in said
    kiosk.until_it_records()
    kiosk.assert_spool_and_ledger_are_whole()


def test_each_power_cut_costs_the_last_seconds_at_most_and_the_kiosk_comes_back_by_itself(
    kiosk: Kiosk, tell: Callable[[str], None]
) -> None:
    """Plain and encrypted, and once while the machine still starts."""
    cuts: list[tuple[str, datetime, int]] = []

    def cut(holding: int) -> None:
        boot = kiosk.boot_id()
        cuts.append((boot, kiosk.cut_power(), holding))
        kiosk.guest.boot()

    _speak(kiosk, 5, then=SEALED)
    kiosk.guest.run("cd /root; head -c 1M /dev/urandom >synced; sync synced; head -c 1M /dev/urandom >unsynced")
    synced, unsynced = (kiosk.guest.run(f"sha256sum /root/{name}") for name in ("synced", "unsynced"))
    cut(_PAGE)
    assert kiosk.guest.run("sha256sum /root/synced") == synced
    assert kiosk.guest.attempt("sha256sum /root/unsynced").output != unsynced, "a cut is a cut"
    _speak(kiosk, 5, then=SEALED)
    cut(_CHUNK)
    cut(_CHUNK)
    _speak(kiosk, 5, then=PLAIN)
    cut(_CHUNK)
    _speak(kiosk, 3, then=SEALED)
    cut(_PAGE)

    kiosk.until_it_records()
    kiosk.vouch_for_the_clock()
    kiosk.assert_spool_and_ledger_are_whole()
    last = {interval.boot: interval for interval in kiosk.timeline() if interval.run}
    lost = [(at - last[boot].end, holding) for boot, at, holding in cuts if boot in last]
    told = (f"{loss.total_seconds():.2f} {'encrypted' if holding == _CHUNK else 'plain'}" for loss, holding in lost)
    tell(f"power cuts of a real machine: {len(cuts)}; seconds of noise lost: {', '.join(told)}")
    assert len(lost) >= len(cuts) - 1, "all but the one while it started were recorded"
    for loss, holding in lost:
        assert timedelta(0) < loss <= timedelta(seconds=_LOST_S + holding / _BYTES_PER_S)

    kiosk.until_all_is_sent()
    cut_short = [segment for segment in kiosk.arrivals.segments() if segment.truncated]
    assert {segment.encrypted for segment in cut_short if segment.sound.any()} == {True, False}
    for run in {last[boot].run for boot, _, _ in cuts if boot in last}:
        for sound in sounds(kiosk.arrivals.runs()[run]):
            assert_played(sound, kiosk.noise)


def test_a_release_that_does_not_live_gives_way_to_the_one_before_by_itself(
    kiosk: Kiosk, release: Release, newer: Release
) -> None:
    done = kiosk.install(newer, "--upgrade")
    assert done.status == 1, done.output
    assert "by this kiosk's key" in done.output, "an image has none: each kiosk makes its own"
    assert f"back to {release.version}" in done.output
    kiosk.until_it_records()
    assert kiosk.guest.run("kiosk-recorder --version").split()[-1] == release.version
    kiosk.assert_spool_and_ledger_are_whole()


def test_install_sh_changes_nothing_of_a_kiosk_that_is_as_it_should_be(kiosk: Kiosk, release: Release) -> None:
    done = kiosk.install(release)
    assert done.status == 0, done.output
    assert "nothing was changed" in done.output


def test_what_was_recorded_stays_when_the_recorder_is_removed(kiosk: Kiosk, release: Release) -> None:
    kiosk.until_something_is_sealed()
    kiosk.guest.run(f"systemctl stop {COURIER} {RECORDER}")
    files = f"cd {SPOOL} && find . -type f -exec sha256sum {{}} + | sort"
    before = kiosk.guest.run(files)
    assert ".flac" in before
    done = kiosk.install(release, "--uninstall")
    assert done.status == 0, done.output
    assert kiosk.guest.run(files) == before
    gone = f"systemctl cat {RECORDER} || command -v kiosk-recorder || ls /opt/kiosk-recorder"
    assert kiosk.guest.attempt(gone).status != 0
    assert {"config.toml", "environment"} <= set(kiosk.guest.run("ls /etc/kiosk-recorder").split())


def _speak(kiosk: Kiosk, seconds: float, *, then: str) -> None:
    """Until so much of it was heard, and it goes on; the next start is with another configuration."""
    kiosk.until_it_records()
    kiosk.configure(then)
    kiosk.speak()
    kiosk.guest.run(f"sleep {seconds}")
