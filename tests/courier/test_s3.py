"""What only S3 can answer."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.loaders import JSONFileLoader

from agent.courier.pace import Pace
from agent.courier.targets import (
    ClockRefused,
    DigestRefused,
    NeedsPerson,
    Outgoing,
    Receipt,
    TargetError,
    Unreachable,
)
from agent.courier.targets.s3 import S3Target
from tests.clocks import FakeClock
from tests.courier.authority import Authority
from tests.courier.stubborn import Answer, Stubborn, stubborn_store
from tests.servers import Bucket, Key, free_ports


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubborn]:
    use(monkeypatch, Key("kiosk", "secret"))
    with stubborn_store() as running:
        yield running


@pytest.fixture
def target(store: Stubborn) -> Iterator[S3Target]:
    made = S3Target("bucket", endpoint_url=store.url)
    yield made
    made.close()


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(0, clock, threading.Event())


@pytest.fixture
def item(tmp_path: Path) -> Outgoing:
    content = b"fLaC" + bytes(200_000)
    path = tmp_path / "recording.flac"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Outgoing(path=path, key="north/x.flac", sha256=digest, size=len(content), metadata={"kr-run": "a"})


def use(monkeypatch: pytest.MonkeyPatch, key: Key) -> None:
    for name, value in key.environment.items():
        monkeypatch.setenv(name, value)


def test_the_request_carries_the_ledgers_hash_its_condition_and_its_description(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    target.put(item, pace)
    (request,) = store.requests
    assert bytes.fromhex(item.sha256) == base64.b64decode(request["x-amz-checksum-sha256"])
    assert request["if-none-match"] == "*"
    assert request["x-amz-meta-kr-run"] == "a"
    assert request["content-type"] == "audio/flac"
    assert "x-amz-checksum-sha256" in request["authorization"], "the hash isn't signed"
    assert "x-amz-trailer" not in request


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_409_is_tried_again(store: Stubborn, target: S3Target, pace: Pace, item: Outgoing, code: str) -> None:
    store.answers.append(Answer(409, code))
    with pytest.raises(Unreachable):
        target.put(item, pace)
    assert target.put(item, pace) == Receipt("stored")


def test_a_store_that_knows_no_conditions_gets_none_any_more(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    store.conditional = False
    assert target.put(item, pace) == Receipt("stored")
    assert target.put(item, pace) == Receipt("stored")
    assert ["if-none-match" in request for request in store.requests] == [True, False, False]


def test_501_to_a_request_without_condition_is_no_endless_loop(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    store.answers.extend([Answer(501, "NotImplemented"), Answer(501, "NotImplemented")])
    with pytest.raises(TargetError):
        target.put(item, pace)
    assert len(store.requests) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(500, "InternalError"), Unreachable),
        (Answer(503, "SlowDown"), Unreachable),
        (Answer(503), Unreachable),
        (Answer(502, page="<html><title>Bad gateway</title><hr></html>"), Unreachable),
        (Answer(429, "TooManyRequests"), Unreachable),
        (Answer(400, "RequestTimeout"), Unreachable),
        (Answer(400, "BadDigest"), DigestRefused),
        (Answer(400, "XAmzContentSHA256Mismatch"), DigestRefused),
        (Answer(403, "RequestTimeTooSkewed"), ClockRefused),
        (Answer(403, "AccessDenied"), NeedsPerson),
        (Answer(403, "InvalidAccessKeyId"), NeedsPerson),
        (Answer(403, "SignatureDoesNotMatch"), NeedsPerson),
        (Answer(400, "ExpiredToken"), NeedsPerson),
        (Answer(404, "NoSuchBucket"), NeedsPerson),
        (Answer(301, "PermanentRedirect"), NeedsPerson),
        (Answer(400, "AuthorizationHeaderMalformed"), NeedsPerson),
        (Answer(507, "XMinioStorageFull"), NeedsPerson),
        (Answer(405), NeedsPerson),
    ],
)
def test_every_refusal_is_of_its_kind_and_says_where_and_what_to_do(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing, answer: Answer, kind: type[TargetError]
) -> None:
    store.answers.append(answer)
    with pytest.raises(TargetError) as caught:
        target.put(item, pace)
    assert type(caught.value) is kind
    assert caught.value.place == f"s3://bucket/north/x.flac at {store.url}"
    assert str(answer.status) in caught.value.cause
    assert caught.value.hint
    assert target.put(item, pace) == Receipt("stored"), "one refusal spoiled the next attempt"


def signed_at(request: dict[str, str]) -> float:
    return datetime.strptime(request["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def test_a_store_that_refuses_the_clock_gets_requests_signed_by_its_own(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing, caplog: pytest.LogCaptureFixture
) -> None:
    store.date = time.time() + 5 * 3600
    store.answers.append(Answer(403, "RequestTimeTooSkewed"))
    assert target.put(item, pace) == Receipt("stored")
    assert target.put(item, pace) == Receipt("already_there")
    refused, again, later = map(signed_at, store.requests)
    assert again - refused == pytest.approx(5 * 3600, abs=60)
    assert later - refused == pytest.approx(5 * 3600, abs=60)
    assert len([record for record in caplog.records if "store's clock" in record.message]) == 1


def test_a_store_that_refuses_its_own_time_is_not_asked_for_ever(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    store.date = time.time() + 5 * 3600
    store.answers.extend([Answer(403, "RequestTimeTooSkewed")] * 5)
    with pytest.raises(ClockRefused):
        target.put(item, pace)
    assert len(store.requests) == 2


def test_when_the_machines_clock_is_put_right_requests_are_signed_by_it_again(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    for date in (time.time() + 5 * 3600, time.time()):
        store.date = date
        store.answers.append(Answer(403, "RequestTimeTooSkewed"))
        target.put(item, pace)
    assert signed_at(store.requests[-1]) == pytest.approx(time.time(), abs=60)


def test_one_attempt_is_one_request(store: Stubborn, target: S3Target, pace: Pace, item: Outgoing) -> None:
    store.answers.extend([Answer(503, "SlowDown")] * 5)
    with pytest.raises(Unreachable):
        target.put(item, pace)
    assert len(store.requests) == 1


def test_a_store_without_checksums_is_believed_if_its_md5_is_right(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    store.confirms = False
    assert target.put(item, pace) == Receipt("stored")


def test_a_store_that_took_something_else_is_not_believed(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    store.confirms = False
    store.keep_body = b"changed on the way"
    with pytest.raises(NeedsPerson, match="neither"):
        target.put(item, pace)


def test_a_store_without_checksums_does_not_hide_that_the_file_is_damaged(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    store.confirms = False
    item.path.write_bytes(b"x" * item.size)
    with pytest.raises(DigestRefused):
        target.put(item, pace)


@pytest.mark.parametrize("answers", [[], [Answer(403, "AccessDenied")], [Answer(404, "NoSuchBucket")]])
def test_the_time_is_read_off_any_answer(store: Stubborn, target: S3Target, answers: list[Answer]) -> None:
    store.date = 1_800_000_123
    store.answers.extend(answers)
    assert target.server_time() == 1_800_000_123 * 10**9


def test_a_store_that_does_not_answer_says_no_time_and_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing
) -> None:
    use(monkeypatch, Key("kiosk", "secret"))
    (port,) = free_ports(1)
    target = S3Target("bucket", endpoint_url=f"http://127.0.0.1:{port}")
    with pytest.raises(Unreachable):
        target.put(item, pace)
    with pytest.raises(Unreachable):
        target.server_time()
    target.close()


@pytest.mark.parametrize("secret", ["wrong", None])
def test_wrong_credentials_need_a_person_and_are_read_anew(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing, secret: str | None
) -> None:
    target = S3Target(bucket.name, endpoint_url=bucket.store.url)
    if secret is None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(NeedsPerson, match="credentials"):
        target.put(item, pace)
    use(monkeypatch, bucket.store.kiosk)
    assert target.put(item, pace) == Receipt("stored")
    target.close()


@pytest.mark.parametrize("variable", ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"])
def test_a_key_in_a_file_that_others_may_read_is_not_used(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing, tmp_path: Path, variable: str
) -> None:
    key, file = bucket.store.kiosk, tmp_path / "aws"
    file.write_text(f"[default]\naws_access_key_id = {key.access}\naws_secret_access_key = {key.secret}\n")
    file.chmod(0o640)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, str(file))
    target = S3Target(bucket.name, endpoint_url=bucket.store.url)
    with pytest.raises(NeedsPerson, match=f"{file}: others may read it\n.*chmod 600 {file}"):
        target.put(item, pace)
    file.chmod(0o600)
    assert target.put(item, pace) == Receipt("stored")
    file.chmod(0o644)
    file.write_text("[default]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access)
    target.close()
    assert target.put(item, pace) == Receipt("already_there"), "what holds no key may be read by all"
    target.close()


def test_refusals_that_are_kept_to_be_told_keep_no_memory(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing
) -> None:
    """Each makes a new client of a few MiB; whoever keeps the errors mustn't keep the old ones."""

    def refused() -> TargetError:
        store.answers.append(Answer(403, "AccessDenied"))
        with pytest.raises(NeedsPerson) as refusal:
            target.put(item, pace)
        return refusal.value.with_traceback(None)

    refused()
    tracemalloc.start()
    try:
        kept = [refused()]
        (before, _) = tracemalloc.get_traced_memory()
        kept += [refused() for _ in range(5)]
        (after, _) = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 6
    assert after - before < 500_000


def test_what_clients_are_made_from_is_read_once(
    store: Stubborn, target: S3Target, pace: Pace, item: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    load_file = JSONFileLoader.load_file

    def counted(loader: JSONFileLoader, path: str) -> object:
        read.append(path)
        return load_file(loader, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    for _ in range(3):
        store.answers.append(Answer(403, "AccessDenied"))
        with pytest.raises(NeedsPerson):
            target.put(item, pace)
    descriptions = [path for path in read if path.endswith("/service-2")]
    assert len(descriptions) == 1, read


def test_credentials_that_may_not_write_need_a_person(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing
) -> None:
    use(monkeypatch, bucket.store.visitor)
    target = S3Target(bucket.name, endpoint_url=bucket.store.url)
    with pytest.raises(NeedsPerson, match=r"AccessDenied.*\n.*PutObject"):
        target.put(item, pace)
    target.close()


@pytest.mark.parametrize("endpoint", ["not a url", "http://"])
def test_an_endpoint_that_is_no_address_needs_a_person(
    monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing, endpoint: str
) -> None:
    use(monkeypatch, Key("kiosk", "secret"))
    target = S3Target("bucket", endpoint_url=endpoint)
    with pytest.raises(NeedsPerson):
        target.put(item, pace)


def test_over_tls_the_hash_is_signed_and_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing, tmp_path: Path
) -> None:
    use(monkeypatch, Key("kiosk", "secret"))
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.ca))
    with stubborn_store(authority.certificate("store")) as store:
        target = S3Target("bucket", endpoint_url=store.url)
        assert target.put(item, pace) == Receipt("stored")
        assert "x-amz-checksum-sha256" in store.requests[0]["authorization"]
        item.path.write_bytes(b"x" * item.size)
        store.objects.clear()
        with pytest.raises(DigestRefused):
            target.put(item, pace)
        target.close()


def test_a_store_that_nobody_vouches_for_is_not_believed_and_needs_a_person(
    monkeypatch: pytest.MonkeyPatch, pace: Pace, item: Outgoing, tmp_path: Path
) -> None:
    use(monkeypatch, Key("kiosk", "secret"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(Authority(tmp_path / "other").ca))
    with stubborn_store(Authority(tmp_path / "authority").certificate("store")) as store:
        target = S3Target("bucket", endpoint_url=store.url)
        with pytest.raises(NeedsPerson, match="CERTIFICATE_VERIFY_FAILED"):
            target.put(item, pace)
        assert store.requests == []
        target.close()
