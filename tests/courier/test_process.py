"""The courier as it runs on a kiosk: its own process, a real store, real signals."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.hours import Hours
from agent.ledger import Ledger
from agent.settings import Settings
from agent.status import FarEnd, read_courier_status
from agent.units import ByteRate
from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.courier.process import courier, run_once
from tests.courier.stubborn import Answer, Stubborn, stubborn_store
from tests.servers import Bucket, Key, free_ports
from tests.soundcard import eventually

KEY = Key("kiosk", "secret")


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", SystemClock())


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    with stubborn_store() as store:
        yield store


def into(kiosk: Kiosk, bucket: Bucket, **upload: object) -> Settings:
    return kiosk.settings(f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url, **upload)  # type: ignore[arg-type]


def all_arrived(kiosk: Kiosk, bucket: Bucket) -> None:
    """Every recording is acknowledged and in the bucket exactly once, bit for bit."""
    segments = list(kiosk.ledger.segments())
    assert {segment.state for segment in segments} == {"acknowledged"}
    assert sorted(bucket.keys()) == sorted(str(segment.key) for segment in segments)
    for segment in segments:
        content, _ = bucket.get(str(segment.key))
        assert hashlib.sha256(content).hexdigest() == segment.sha256


def test_once_uploads_everything_and_ends_well(kiosk: Kiosk, bucket: Bucket) -> None:
    kiosk.record(7)
    status, said = run_once(into(kiosk, bucket), bucket.store.kiosk.environment)
    assert status == 0, said
    all_arrived(kiosk, bucket)


def test_once_with_nothing_to_do_ends_well(kiosk: Kiosk, bucket: Bucket) -> None:
    assert run_once(into(kiosk, bucket), bucket.store.kiosk.environment)[0] == 0


def test_once_into_a_directory_needs_no_store(kiosk: Kiosk, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    kiosk.record(2)
    status, said = run_once(kiosk.settings(f"file://{tmp_path / 'disk'}"), {})
    assert status == 0, said
    assert len(list((tmp_path / "disk").rglob("*.flac"))) == 2


@pytest.mark.parametrize("wrong", ["bucket", "credentials", "port"])
def test_once_with_a_store_that_does_not_take_it_ends_2_with_one_message_and_keeps_everything(
    kiosk: Kiosk, bucket: Bucket, wrong: str
) -> None:
    kiosk.record(5)
    settings, environment = into(kiosk, bucket), bucket.store.kiosk.environment
    if wrong == "bucket":
        settings = kiosk.settings("s3://no-such-bucket/rooms", endpoint_url=bucket.store.url)
        clue = "NoSuchBucket"
    elif wrong == "credentials":
        environment = environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        clue = "credentials"
    else:
        (port,) = free_ports(1)
        settings = kiosk.settings(f"s3://{bucket.name}", endpoint_url=f"http://127.0.0.1:{port}")
        clue = "connect"
    status, said = run_once(settings, environment)
    assert status == 2, said
    assert clue in said
    (error, way_out) = said.splitlines()
    assert " ERROR " in error
    assert way_out.strip().startswith("→")
    assert kiosk.states() == ["pending"] * 5
    assert run_once(into(kiosk, bucket), bucket.store.kiosk.environment)[0] == 0
    all_arrived(kiosk, bucket)


def test_a_recording_with_a_flipped_bit_is_reported_and_the_others_arrive(kiosk: Kiosk, bucket: Bucket) -> None:
    segments = kiosk.record(4)
    kiosk.damage(segments[1])
    status, said = run_once(into(kiosk, bucket), bucket.store.kiosk.environment)
    assert status == 1, said
    assert str(segments[1].name) in said
    assert kiosk.states() == ["acknowledged", "damaged", "acknowledged", "acknowledged"]
    assert len(bucket.keys()) == 3
    assert kiosk.layout.audio(segments[1].name).exists(), "the courier touched the spool"


def test_killed_in_mid_upload_it_leaves_one_object_of_each_recording(kiosk: Kiosk, bucket: Bucket) -> None:
    kiosk.record(3, seconds=10)
    size = kiosk.layout.audio(next(kiosk.ledger.segments()).name).stat().st_size
    slow = into(kiosk, bucket, max_rate=ByteRate(size), parallel=1)
    for _ in range(2):
        with courier(slow, bucket.store.kiosk.environment) as running:
            eventually(lambda: kiosk.states().count("acknowledged") > 0 or in_mid_upload(running.process.pid), "upload")
            eventually(lambda: in_mid_upload(running.process.pid), "a recording on the line")
            running.kill()
    keys = {segment.name: segment.key for segment in kiosk.ledger.segments()}
    assert "pending" in kiosk.states()
    status, said = run_once(into(kiosk, bucket), bucket.store.kiosk.environment)
    assert status == 0, said
    all_arrived(kiosk, bucket)
    assert {name: key for name, key in keys.items() if key} == {
        segment.name: segment.key for segment in kiosk.ledger.segments() if keys[segment.name]
    }


def in_mid_upload(pid: int) -> bool:
    """Whether a recording is open in that process and partly read."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not link.readlink().name.endswith(".flac"):
                continue
            position = (link.parents[1] / "fdinfo" / link.name).read_text().split()[1]
        except OSError:
            continue
        if int(position) > 16_000:
            return True
    return False


def test_killed_between_the_stores_answer_and_the_ledger_it_finds_its_own_object(kiosk: Kiosk, bucket: Bucket) -> None:
    kiosk.record(1)
    assert run_once(into(kiosk, bucket), bucket.store.kiosk.environment)[0] == 0
    kiosk.ledger._db.execute("UPDATE segments SET state = 'pending'")  # noqa: SLF001 (the acknowledgement was lost)
    status, said = run_once(into(kiosk, bucket), bucket.store.kiosk.environment)
    assert status == 0, said
    (segment,) = kiosk.ledger.segments()
    assert segment.reason == "already_there"
    all_arrived(kiosk, bucket)


def test_a_courier_that_starts_late_catches_up_and_then_keeps_up(kiosk: Kiosk, bucket: Bucket) -> None:
    kiosk.record(10)
    with courier(into(kiosk, bucket), bucket.store.kiosk.environment) as running:
        eventually(lambda: kiosk.states() == ["acknowledged"] * 10, f"it catches up: {running.log}")
        kiosk.record(2, first=10)
        eventually(lambda: kiosk.states() == ["acknowledged"] * 12, f"it keeps up: {running.log}")
        assert running.end() == 0
    all_arrived(kiosk, bucket)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_in_mid_upload_it_ends_soon_and_well(kiosk: Kiosk, bucket: Bucket, number: int) -> None:
    kiosk.record(2, seconds=10)
    with courier(into(kiosk, bucket, max_rate=ByteRate(20_000)), bucket.store.kiosk.environment) as running:
        eventually(lambda: in_mid_upload(running.process.pid), "a recording on the line")
        assert running.end(number) == 0, running.said
    assert bucket.keys() == []
    assert run_once(into(kiosk, bucket), bucket.store.kiosk.environment)[0] == 0
    all_arrived(kiosk, bucket)


def test_as_a_service_it_holds_tells_once_and_keeps_running_when_the_store_refuses(
    kiosk: Kiosk, stubborn: Stubborn
) -> None:
    kiosk.record(20)
    stubborn.answers.extend([Answer(403, "AccessDenied")] * 1000)
    settings = kiosk.settings("s3://bucket", endpoint_url=stubborn.url)
    with courier(settings, KEY.environment) as running:
        eventually(lambda: "AccessDenied" in running.said, "the refusal is told")
        assert stubborn.on_request.wait(5)
        assert running.end() == 0
    assert running.said.count("AccessDenied") == 1
    assert len(stubborn.requests) <= 2 * settings.upload.parallel
    assert kiosk.states() == ["pending"] * 20


def test_a_store_that_comes_back_is_noticed_without_a_restart(kiosk: Kiosk, stubborn: Stubborn) -> None:
    kiosk.record(3)
    stubborn.answers.extend([Answer(503, "SlowDown")] * 3)
    with courier(kiosk.settings("s3://bucket", endpoint_url=stubborn.url), KEY.environment) as running:
        eventually(lambda: kiosk.states() == ["acknowledged"] * 3, f"it goes on: {running.log}")
        assert running.end() == 0
    assert "uploads wait" in running.said
    assert "uploads go on" in running.said


def test_what_is_evicted_while_it_waits_is_let_go(kiosk: Kiosk, stubborn: Stubborn) -> None:
    (given_up, kept) = kiosk.record(2)
    stubborn.answers.extend([Answer(503, "SlowDown")] * 4)
    with courier(kiosk.settings("s3://bucket", endpoint_url=stubborn.url), KEY.environment) as running:
        assert stubborn.on_request.wait(10)
        kiosk.evict(given_up)
        eventually(lambda: kiosk.state(kept) == "acknowledged", f"the other one arrives: {running.log}")
        assert running.end() == 0
    assert kiosk.state(given_up) in ("evicted", "acknowledged")
    assert "Traceback" not in running.said


def test_outside_of_the_upload_hours_nothing_goes_out(kiosk: Kiosk, stubborn: Stubborn) -> None:
    kiosk.record(2)
    minute = SystemClock().wall_ns() // 60_000_000_000 % 1440
    later = [(minute + offset) % 1440 for offset in (600, 660)]
    hours = Hours.parse("-".join(f"{each // 60:02}:{each % 60:02}" for each in later))
    status, said = run_once(kiosk.settings("s3://bucket", endpoint_url=stubborn.url, hours=(hours,)), KEY.environment)
    assert status == 0, said
    assert "2 wait for their hours" in said
    assert stubborn.requests == []
    assert kiosk.states() == ["pending"] * 2


def test_a_second_courier_is_refused_and_the_first_goes_on(kiosk: Kiosk, bucket: Bucket) -> None:
    settings = into(kiosk, bucket)
    with courier(settings, bucket.store.kiosk.environment) as first:
        eventually(lambda: "uploads go to" in first.said, "the first one runs")
        status, said = run_once(settings, bucket.store.kiosk.environment)
        assert status == 2
        assert f"process {first.process.pid}" in said
        kiosk.record()
        eventually(lambda: kiosk.states() == ["acknowledged"], "the first one works")
        assert first.end() == 0


def test_it_waits_for_the_recorder_to_make_the_ledger(tmp_path: Path, bucket: Bucket) -> None:
    root = tmp_path / "kiosk"
    root.mkdir()
    settings = Kiosk.settings_of(root, f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url)
    with courier(settings, bucket.store.kiosk.environment) as running:
        eventually(lambda: "waiting for the recorder" in running.said, "it waits")
        kiosk = Kiosk(root, SystemClock())
        kiosk.record()
        eventually(lambda: kiosk.states() == ["acknowledged"], f"it begins: {running.log}")
        assert running.end() == 0
    assert running.said.count("waiting for the recorder") == 1


def test_without_a_ledger_once_says_so_and_ends_2(tmp_path: Path) -> None:
    status, said = run_once(Kiosk.settings_of(tmp_path, "file:///nowhere"), {})
    assert status == 2
    assert "recorder" in said


def test_without_a_target_it_keeps_everything_and_runs(kiosk: Kiosk) -> None:
    kiosk.record()
    with courier(kiosk.settings(), {}) as running:
        eventually(lambda: "stay in the spool" in running.said, "it says so")
        assert running.end() == 0
    assert kiosk.states() == ["pending"]
    assert run_once(kiosk.settings(), {})[0] == 2


def test_an_unknown_target_ends_it_2_with_the_way_out(kiosk: Kiosk) -> None:
    status, said = run_once(kiosk.settings("ftp://store/x"), {})
    assert status == 2
    assert "s3://bucket/prefix" in said


def test_a_dead_thread_ends_the_process_badly(kiosk: Kiosk, stubborn: Stubborn) -> None:
    kiosk.record()
    with courier(kiosk.settings("s3://bucket", endpoint_url=stubborn.url), KEY.environment) as running:
        eventually(lambda: kiosk.states() == ["acknowledged"], "it works")
        for path in list(kiosk.layout.state.glob("ledger.db*")):
            path.rename(path.with_name(f"damaged-{path.name}"))
        Ledger(kiosk.layout.ledger, kiosk.clock, create=True).close()
        assert running.process.wait(10) == 1
    assert "new one" in running.said


def test_the_ceiling_holds_in_the_whole_process(kiosk: Kiosk, stubborn: Stubborn) -> None:
    """Four recordings at once under a ceiling that lets through two a second: nothing may be there early."""
    segments = kiosk.record(4, seconds=5)
    ceiling = 2 * segments[0].bytes
    settings = kiosk.settings("s3://bucket", endpoint_url=stubborn.url, parallel=4, max_rate=ByteRate(ceiling))
    clock = SystemClock()
    began_ns = clock.monotonic_ns()
    with courier(settings, KEY.environment) as running:
        eventually(lambda: len(stubborn.objects) >= 1, f"the first one arrives: {running.log}")
        arrived = sum(len(content) for content in stubborn.objects.values())
        seconds = (clock.monotonic_ns() - began_ns) / 1e9
        assert running.end() == 0
    assert arrived <= ceiling * seconds + ceiling / 2


def test_what_is_wrong_at_the_far_ends_is_there_for_status_to_read(kiosk: Kiosk, stubborn: Stubborn) -> None:
    kiosk.record()
    stubborn.answers.append(Answer(403, "AccessDenied"))
    settings = kiosk.settings("s3://bucket", endpoint_url=stubborn.url, mqtt="mqtt://127.0.0.1:1")
    with courier(settings, KEY.environment) as running:

        def told() -> dict[str, FarEnd]:
            status = read_courier_status(kiosk.root / "run")
            return dict(status.far_ends) if status and status.pid == running.process.pid else {}

        eventually(lambda: told().keys() == {"card", "broker"}, "both are told")
        assert "403 AccessDenied" in told()["card"].trouble
        assert "\n  → " in told()["broker"].trouble
        eventually(lambda: kiosk.states() == ["acknowledged"], "it goes on", 40)
        eventually(lambda: told().keys() == {"broker"}, "what is over isn't told any more")
        assert running.end() == 0
