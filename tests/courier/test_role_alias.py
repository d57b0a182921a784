"""The credential helper before a provider over TLS that obeys the rules of AWS IoT's."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.courier.pace import Pace
from agent.courier.targets import NeedsPerson, Outgoing, Receipt, Unreachable
from agent.courier.targets.s3 import S3Target
from tests.clocks import FakeClock
from tests.courier.authority import Authority
from tests.courier.stubborn import stubborn_store
from tests.servers import free_ports

ROOT = Path(__file__).parents[2]
PATH = "/role-aliases/kiosk-uploads/credentials"


@dataclass
class Provider:
    """Gives credentials to a thing whose certificate it knows, as the documented interface does."""

    authority: Authority
    endpoint: str = ""
    attached: dict[str, str] = field(default_factory=lambda: {"room-12": "room-12"})
    """Things, by the name in the certificate they are attached to."""
    answer: tuple[int, bytes] | None = None
    """Given instead."""

    def command(self, thing: str = "room-12", holder: str = "room-12", ca: Path | None = None) -> list[str]:
        certificate, key = self.authority.certificate(holder)
        options = {"--endpoint": self.endpoint, "--role-alias": "kiosk-uploads", "--thing": thing}
        options |= {"--certificate": str(certificate), "--key": str(key), "--ca": str(ca or self.authority.ca)}
        return [sys.executable, "-m", "agent.courier.role_alias", *(word for pair in options.items() for word in pair)]

    def respond(self, path: str, thing: str | None, holder: str) -> tuple[int, bytes]:
        if self.answer is not None:
            return self.answer
        if path != PATH:
            return 404, b'{"message":"Role alias does not exist"}'
        if thing is not None and self.attached.get(holder) != thing:
            return 403, b'{"message":"Access Denied"}'
        until = datetime.now(UTC) + timedelta(hours=1)
        secret = {"accessKeyId": "ASIA", "secretAccessKey": "for-an-hour", "sessionToken": f"of {thing}"}
        return 200, json.dumps({"credentials": secret | {"expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}"}}).encode()


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    known = Provider(Authority(tmp_path / "authority"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.connection, ssl.SSLSocket)
            certificate = self.connection.getpeercert() or {}
            holder = str(dict(pair[0] for pair in certificate["subject"])["commonName"])  # type: ignore[misc]
            status, answer = known.respond(self.path, self.headers["x-amzn-iot-thingname"], holder)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*known.authority.certificate("provider"))
        context.load_verify_locations(known.authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        known.endpoint = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield known
        server.shutdown()
        thread.join()


@pytest.fixture
def item(tmp_path: Path) -> Outgoing:
    content = b"speech"
    path = tmp_path / "recording.flac"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Outgoing(path=path, key="north/x.flac", sha256=digest, size=len(content), metadata={})


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(0, clock, threading.Event())


def ask(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_holder_of_the_certificate_gets_credentials_in_botocore_s_words(provider: Provider) -> None:
    answer = ask(provider.command())
    assert answer.returncode == 0, answer.stderr
    given = json.loads(answer.stdout)
    assert (given["Version"], given["AccessKeyId"], given["SessionToken"]) == (1, "ASIA", "of room-12")
    assert datetime.fromisoformat(given["Expiration"]) > datetime.now(UTC)


@pytest.mark.parametrize(
    ("thing", "holder", "said"),
    [
        ("room-13", "room-12", "refuses this kiosk: 403"),
        ("room-12", "room-13", "refuses this kiosk: 403"),
    ],
)
def test_nobody_gets_another_s(provider: Provider, thing: str, holder: str, said: str) -> None:
    answer = ask(provider.command(thing, holder))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ((503, b""), "can't be reached: it answers 503"),
        ((429, b""), "can't be reached: it answers 429"),
        ((200, b"no JSON"), "can't be understood"),
        ((200, b'{"credentials": {"accessKeyId": "ASIA"}}'), "can't be understood"),
        ((200, b'{"credentials": ["x"]}'), "can't be understood"),
        ((200, b"[" * 60_000), "can't be understood"),
        ((301, b"elsewhere"), "refuses this kiosk: 301"),
    ],
)
def test_an_answer_that_is_none_is_told_in_one_line(provider: Provider, answered: tuple[int, bytes], said: str) -> None:
    provider.answer = answered
    answer = ask(provider.command())
    assert (answer.returncode, answer.stdout) == (1, "")
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_provider_that_nobody_vouches_for_is_told_nothing(provider: Provider, tmp_path: Path) -> None:
    answer = ask(provider.command(ca=Authority(tmp_path / "other").ca))
    assert answer.returncode == 1
    assert "don't trust each other" in answer.stderr


def test_a_key_that_others_may_read_is_not_used(provider: Provider) -> None:
    command = provider.command()
    Path(command[command.index("--key") + 1]).chmod(0o640)
    answer = ask(command)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "may be read by others" in answer.stderr


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]) -> None:
    """Give this process an AWS configuration like the shipped one."""
    configuration = tmp_path / "aws-config"
    shipped = (ROOT / "fleet" / "access" / "aws-config").read_text().replace("REGION", "us-east-1")
    lines = [line for line in shipped.splitlines() if not line.startswith("credential_process")]
    configuration.write_text("\n".join([*lines, f"credential_process = {' '.join(command)}"]) + "\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(ROOT)


def test_uploads_are_signed_with_what_the_certificate_was_exchanged_for(
    provider: Provider, item: Outgoing, pace: Pace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, tmp_path, provider.command())
    with stubborn_store() as store:
        store.confirms = False
        target = S3Target("bucket", endpoint_url=store.url)
        assert target.put(item, pace) == Receipt("stored")
        assert store.requests[0]["x-amz-security-token"] == "of room-12"
        assert "Credential=ASIA/" in store.requests[0]["authorization"]
        target.close()


@pytest.mark.parametrize(("answered", "kind"), [((503, b""), Unreachable), ((403, b""), NeedsPerson)])
def test_a_provider_that_is_down_passes_and_one_that_refuses_needs_a_person(
    provider: Provider,
    item: Outgoing,
    pace: Pace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answered: tuple[int, bytes],
    kind: type[Exception],
) -> None:
    configure(monkeypatch, tmp_path, provider.command())
    provider.answer = answered
    target = S3Target("bucket", endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(kind, match="credentials provider"):
        target.put(item, pace)
    target.close()


def test_without_a_network_the_provider_can_t_be_reached(provider: Provider) -> None:
    provider.endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    answer = ask(provider.command())
    assert "can't be reached" in answer.stderr


def test_the_shipped_configuration_names_options_that_there_are() -> None:
    shipped = (ROOT / "fleet" / "access" / "aws-config").read_text()
    (line,) = (line for line in shipped.splitlines() if line.startswith("credential_process"))
    words = line.partition("=")[2].split()
    answer = ask([sys.executable, *words[1:]])
    assert "usage:" not in answer.stderr, answer.stderr
    assert "can't be used" in answer.stderr
