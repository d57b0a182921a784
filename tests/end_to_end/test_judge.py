"""The judge of the storms condemns: each kind of harm, done on purpose to a sound kiosk, is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.ledger import Gap
from agent.settings import Capture, Device, Settings, Spool, Upload
from agent.timeline import lay_out
from agent.units import Duration, Size
from tests.end_to_end.judge import Judge, noise_that_never_repeats
from tests.end_to_end.kiosk import Kiosk
from tests.end_to_end.storm import Life, Storm
from tests.servers import Bucket
from tests.soundcard import Soundcard, eventually

RATE = 16000


@pytest.fixture
def judge(tmp_path: Path, bucket: Bucket, soundcard: Soundcard) -> Judge:
    """One that has nothing to complain of: a kiosk that was killed once."""
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=1, sync_seconds=0.5, keep_free=Size(0)),
        upload=Upload(target=f"s3://{bucket.name}/calm", endpoint_url=bucket.store.url, clock_wait=Duration(0)),
    )
    source = noise_that_never_repeats(120, RATE, seed=1)
    with Kiosk(settings, bucket.store.kiosk.environment) as kiosk:
        storm = Storm(kiosk, soundcard(source))
        recorder = kiosk.record(storm.room)
        eventually(lambda: len(kiosk.segments()) >= 3, "three segments are sealed")
        recorder.kill()
        recorder.wait()
        storm.calm(segments=6)
    sound = Judge(kiosk, bucket, storm.room, source)
    sound.assert_all()
    return sound


def an_object_is_missing(judge: Judge) -> None:
    del judge.objects[next(iter(judge.objects))]


def a_segment_lies_under_two_keys(judge: Judge) -> None:
    key, content = next(iter(judge.objects.items()))
    judge.objects[key.replace("_", "X_", 1)] = content


def an_object_has_one_wrong_bit(judge: Judge) -> None:
    key, content = next(iter(judge.objects.items()))
    judge.objects[key] = content[:-1] + bytes([content[-1] ^ 1])


def two_objects_have_each_others_content(judge: Judge) -> None:
    one, other = list(judge.objects)[:2]
    judge.objects[one], judge.objects[other] = judge.objects[other], judge.objects[one]


def a_segment_waits_for_ever(judge: Judge) -> None:
    judge.segments[1] = replace(judge.segments[1], state="pending")


def a_segment_was_given_up(judge: Judge) -> None:
    judge.entries.append(replace(judge.entries[-1], kind="evicted"))


def a_run_lacks_a_segment_everywhere(judge: Judge) -> None:
    gone = judge.segments.pop(1)
    del judge.objects[str(gone.key)]


def one_sample_is_not_what_was_played(judge: Judge) -> None:
    judge.source = judge.source.copy()
    judge.source[judge.placed_runs()[0].position + RATE] ^= 1


def the_first_block_of_a_run_is_lost(judge: Judge) -> None:
    begin = judge.placed_runs()[1].position
    judge.starts = {start - 4096 if start == begin else start for start in judge.starts}


def a_gap_was_never_entered(judge: Judge) -> None:
    _lay_out_anew(judge, judge.gaps[1:])


def a_gap_begins_before_the_recording_ends(judge: Judge) -> None:
    first, *others = judge.gaps
    _lay_out_anew(judge, [replace(first, begin_ns=first.begin_ns - 1), *others])


def a_gap_is_longer_than_what_was_missed(judge: Judge) -> None:
    """The second run is a second later on the kiosk's clock than it was in the room; everything still tiles."""
    late_ns = judge.gaps[0].end_ns

    def late(ns: int) -> int:
        return ns + 10**9 if ns >= late_ns else ns

    judge.segments = [
        replace(segment, begin_ns=late(segment.begin_ns), end_ns=late(segment.end_ns)) for segment in judge.segments
    ]
    _lay_out_anew(judge, [replace(gap, begin_ns=late(gap.begin_ns), end_ns=late(gap.end_ns)) for gap in judge.gaps])


def a_gap_has_a_reason_of_its_own(judge: Judge) -> None:
    judge.gaps[0] = replace(judge.gaps[0], reason="overrun")


def a_segment_is_counted_twice(judge: Judge) -> None:
    judge.counters["segments_total"] += 1


def _lay_out_anew(judge: Judge, gaps: list[Gap]) -> None:
    judge.gaps = gaps
    judge.timeline = lay_out(judge.segments, gaps, [account.boot for account in judge.timeline.accounts])


HARMS: list[Callable[[Judge], None]] = [
    an_object_is_missing,
    a_segment_lies_under_two_keys,
    an_object_has_one_wrong_bit,
    two_objects_have_each_others_content,
    a_segment_waits_for_ever,
    a_segment_was_given_up,
    a_run_lacks_a_segment_everywhere,
    one_sample_is_not_what_was_played,
    the_first_block_of_a_run_is_lost,
    a_gap_was_never_entered,
    a_gap_begins_before_the_recording_ends,
    a_gap_is_longer_than_what_was_missed,
    a_gap_has_a_reason_of_its_own,
    a_segment_is_counted_twice,
]


def test_every_kind_of_harm_is_condemned(judge: Judge) -> None:
    unseen = []
    for harm in HARMS:
        harmed = judge.copy()
        harm(harmed)
        try:
            harmed.assert_all()
        except AssertionError:
            continue
        unseen.append(harm.__name__)
    assert unseen == []


def test_a_kill_that_cost_more_than_promised_is_condemned(judge: Judge) -> None:
    (gap, *_) = judge.gaps
    for lost_s, condemned in ((judge.promised_s - 0.1, False), (judge.promised_s + 0.1, True)):
        killed_ns = gap.begin_ns + round(lost_s * 1e9)
        life = Life("recorder", gap.begin_ns - 10**9, killed_ns, "writing")
        if condemned:
            with pytest.raises(AssertionError):
                judge.assert_a_kill_costs_what_is_promised([life])
        else:
            judge.assert_a_kill_costs_what_is_promised([life])
