"""When a quiet ends: never early, whatever the clocks and the power do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from agent.recorder.quiet import Moment, begun, in_force, joined, left_ns, without
from agent.recorder.standing import FILE, Standing, keep, remembered
from agent.units import NS_PER_S

HOUR_NS = 3600 * NS_PER_S
NOW = Moment("a" * 32, 1000 * NS_PER_S, 1_800_000_000 * NS_PER_S)


def later(seconds: float, boot: str = "", *, wall: bool = True, since_boot_s: float = 0) -> Moment:
    wall_ns = (NOW.wall_ns or 0) + round(seconds * NS_PER_S) if wall else None
    monotonic_ns = round(since_boot_s * NS_PER_S) if boot else NOW.monotonic_ns + round(seconds * NS_PER_S)
    return Moment(boot or NOW.boot, monotonic_ns, wall_ns)


def test_in_its_own_boot_a_quiet_ends_by_the_monotonic_clock_alone() -> None:
    quiet = begun("muted", "command", HOUR_NS, NOW)
    stepped = replace(later(60), wall_ns=(NOW.wall_ns or 0) + 10 * HOUR_NS)
    assert left_ns(quiet, stepped) == HOUR_NS - 60 * NS_PER_S
    assert left_ns(quiet, later(3600)) == 0


def test_after_a_power_cut_it_ends_by_wall_time_when_that_was_and_is_trusted() -> None:
    quiet = begun("muted", "command", HOUR_NS, NOW)
    assert left_ns(quiet, later(3600, "b" * 32, since_boot_s=10)) != 0, "two clocks may differ by seconds"
    assert left_ns(quiet, later(3606, "b" * 32, since_boot_s=10)) == 0


def test_where_the_clock_becomes_right_after_its_end_it_goes_on_for_the_minute_that_announces_recording() -> None:
    quiet = begun("muted", "command", HOUR_NS, NOW)
    long_after = later(9 * 3600, "b" * 32, since_boot_s=30)
    assert left_ns(quiet, replace(long_after, doubted_ns=20 * NS_PER_S)) == 50 * NS_PER_S
    assert left_ns(quiet, replace(long_after, doubted_ns=None)) == 0
    old = replace(long_after, monotonic_ns=HOUR_NS - 9 * NS_PER_S, doubted_ns=HOUR_NS - 10 * NS_PER_S)
    assert left_ns(quiet, old) == 9 * NS_PER_S, "and never for longer than it was meant to be"


def test_without_a_clock_it_lasts_its_whole_length_from_when_the_machine_came_up() -> None:
    quiet = begun("muted", "command", HOUR_NS, NOW)
    assert left_ns(quiet, later(9 * 3600, "b" * 32, wall=False, since_boot_s=3599)) == NS_PER_S
    assert left_ns(quiet, later(9 * 3600, "b" * 32, wall=False, since_boot_s=3600)) == 0
    blind = begun("muted", "command", HOUR_NS, replace(NOW, wall_ns=None))
    assert left_ns(blind, later(9 * 3600, "b" * 32, since_boot_s=10)) == HOUR_NS - 10 * NS_PER_S


def test_of_two_mutes_the_later_end_counts_and_a_mute_counts_before_a_pause() -> None:
    long, short = (begun("muted", "command", length, NOW) for length in (HOUR_NS, HOUR_NS // 2))
    assert joined(joined((), long, NOW), short, NOW) == (long,)
    assert joined(joined((), short, NOW), long, NOW) == (long,)
    pause = begun("paused", "command", None, NOW)
    assert in_force((pause, short), NOW) == short
    assert in_force((pause, short), later(3600)) == pause


def test_a_mute_by_button_cannot_be_lifted_from_afar() -> None:
    button, command = (begun("muted", source, HOUR_NS, NOW) for source in ("button", "command"))
    assert without((button, command, begun("paused", "command", None, NOW)), "command", NOW) == (button,)


def test_what_holds_is_kept_and_the_newer_of_two_copies_counts(tmp_path: Path) -> None:
    card, memory = tmp_path / "card", tmp_path / "memory"
    card.mkdir()
    memory.mkdir()
    first = Standing().after((begun("muted", "command", HOUR_NS, NOW),), "a" * 32, 1, NOW)
    keep(card, first, durable=True)
    assert remembered(card, memory, NOW, HOUR_NS) == first
    second = first.after((), "b" * 32, 2, NOW)
    keep(memory, second, durable=False)
    found = remembered(card, memory, NOW, HOUR_NS)
    assert (found.quiets, set(found.obeyed)) == ((), {"a" * 32, "b" * 32})


def test_a_file_that_cannot_be_understood_counts_as_a_mute(tmp_path: Path) -> None:
    keep(tmp_path, Standing().after((), "a" * 32, 1, NOW), durable=True)
    content = json.loads((tmp_path / FILE).read_bytes())
    (tmp_path / FILE).write_text(json.dumps(content | {"generation": 7}))
    quiet = in_force(remembered(tmp_path, tmp_path / "none", NOW, HOUR_NS).quiets, NOW)
    assert quiet is not None
    assert (quiet.reason, left_ns(quiet, NOW)) == ("muted", HOUR_NS)


def test_a_card_that_cannot_be_read_counts_as_a_mute_unless_memory_knows_better(tmp_path: Path) -> None:
    card, memory = tmp_path / "card", tmp_path / "memory"
    (card / FILE).mkdir(parents=True)
    quiet = in_force(remembered(card, memory, NOW, HOUR_NS, "button").quiets, NOW)
    assert quiet is not None
    assert (quiet.reason, quiet.source, left_ns(quiet, NOW)) == ("muted", "button", HOUR_NS)
    memory.mkdir()
    keep(memory, Standing(), durable=False)
    assert remembered(card, memory, NOW, HOUR_NS).quiets == ()
