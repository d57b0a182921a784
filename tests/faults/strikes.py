"""What can go wrong between a kiosk and its store: each is in force while its block runs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botocore.exceptions import ClientError

from tests.courier.authority import Authority
from tests.faults.line import certified
from tests.faults.scene import Scene, Strike
from tests.faults.store_line import Mode, passes
from tests.soundcard import eventually


@dataclass(frozen=True, slots=True)
class Library:
    """What bends a process's view of the world when it is loaded before all others."""

    package: str
    """Of Debian."""
    path: Path | None
    """None where it isn't installed."""


NSS_WRAPPER = Library("libnss-wrapper", next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None))
FAKETIME = Library("faketime", next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None))

STORE_NAME = "store.kiosk.invalid"
"""A name that no resolver of the world will ever know (RFC 6761)."""


def on_the_line(mode: Mode) -> Strike:
    """Every request meets `mode`."""

    @contextlib.contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        scene.store_line.mode = mode
        yield
        scene.store_line.mode = passes

    return strike


@contextlib.contextmanager
def refused(scene: Scene) -> Iterator[None]:
    """Nobody listens at the store's port."""
    scene.store_line.refuse()
    yield
    scene.store_line.listen()


def flapping(up_s: float, down_s: float) -> Strike:
    """The way comes and goes."""

    @contextlib.contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        over = threading.Event()

        def flap() -> None:
            while not over.is_set():
                with refused(scene):
                    over.wait(down_s / scene.speed)
                over.wait(up_s / scene.speed)

        thread = threading.Thread(target=flap)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return strike


# The store's own refusals.


@contextlib.contextmanager
def forbidden(scene: Scene) -> Iterator[None]:
    """The store's own policy denies what the kiosk needs."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:PutObject",
                "Resource": f"arn:aws:s3:::{scene.bucket.name}/*",
            }
        ],
    }
    with contextlib.closing(scene.bucket.store.client()) as client:
        client.put_bucket_policy(Bucket=scene.bucket.name, Policy=json.dumps(policy))
        yield
        client.delete_bucket_policy(Bucket=scene.bucket.name)


@contextlib.contextmanager
def no_bucket(scene: Scene) -> Iterator[None]:
    """The bucket has yet to be made."""
    with contextlib.closing(scene.bucket.store.client()) as client:
        client.delete_bucket(Bucket=scene.bucket.name)
        yield

        def made() -> bool:
            # SeaweedFS may still be busy with taking it away.
            with contextlib.suppress(ClientError):
                client.create_bucket(Bucket=scene.bucket.name)
                return True
            return False

        eventually(made, "the bucket is there again")


# Credentials.


def credentials_in_a_file(scene: Scene) -> Path:
    """Where the kiosk reads its credentials from, instead of its environment."""
    path = scene.directory / "credentials"
    path.touch(0o600)
    scene.environment = {
        name: value
        for name, value in scene.environment.items()
        if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    } | {"AWS_SHARED_CREDENTIALS_FILE": str(path)}
    return path


@contextlib.contextmanager
def wrong_secret(scene: Scene) -> Iterator[None]:
    """The secret in the file isn't the store's; then somebody corrects it."""
    path, key = credentials_in_a_file(scene), scene.bucket.store.kiosk
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    path.write_text(text.format(key.access, "mistyped"))
    yield
    path.write_text(text.format(key.access, key.secret))


@contextlib.contextmanager
def no_credentials(scene: Scene) -> Iterator[None]:
    """There are none yet."""
    path, key = credentials_in_a_file(scene), scene.bucket.store.kiosk
    yield
    path.write_text(f"[default]\naws_access_key_id = {key.access}\naws_secret_access_key = {key.secret}\n")


@contextlib.contextmanager
def expired_credentials(scene: Scene) -> Iterator[None]:
    """The helper that `credential_process` names hands out what expired an hour ago; then it has fresh ones."""
    credentials_in_a_file(scene)
    handed_out = scene.directory / "handed-out.json"
    configuration = scene.directory / "aws-config"
    configuration.write_text(f"[default]\ncredential_process = cat {handed_out}\n")
    scene.environment |= {"AWS_CONFIG_FILE": str(configuration)}
    key = scene.bucket.store.kiosk

    def hand_out(hours: int) -> None:
        expiration = datetime.now(UTC) + timedelta(hours=hours)
        fresh = handed_out.with_suffix(".new")
        fresh.write_text(
            json.dumps(
                {
                    "Version": 1,
                    "AccessKeyId": key.access,
                    "SecretAccessKey": key.secret,
                    "Expiration": expiration.isoformat(),
                }
            )
        )
        fresh.replace(handed_out)

    hand_out(-1)
    yield
    hand_out(12)


# TLS and names.


def over_tls(scene: Scene) -> Authority:
    """The store's line speaks TLS, and the kiosk trusts the authority returned."""
    authority = Authority(scene.directory / "authority")
    scene.endpoint_url = f"https://127.0.0.1:{scene.store_line.port}"
    scene.environment |= {"AWS_CA_BUNDLE": str(authority.ca)}
    return authority


@contextlib.contextmanager
def expired_certificate(scene: Scene) -> Iterator[None]:
    """The store's certificate has expired; then it is renewed."""
    authority = over_tls(scene)
    scene.store_line.certificate = certified(authority.certificate("expired", days=-1))
    yield
    scene.store_line.certificate = certified(authority.certificate("renewed"))


@contextlib.contextmanager
def strange_certificate(scene: Scene) -> Iterator[None]:
    """Somebody in between shows a certificate of his own."""
    authority, stranger = over_tls(scene), Authority(scene.directory / "stranger")
    scene.store_line.certificate = certified(stranger.certificate("store"))
    yield
    scene.store_line.certificate = certified(authority.certificate("store"))


@contextlib.contextmanager
def endless_handshake(scene: Scene) -> Iterator[None]:
    """Connections are taken, and nobody answers the handshake."""
    authority = over_tls(scene)
    scene.store_line.certificate = certified(authority.certificate("store"))
    scene.store_line.shakes_hands = False
    yield
    scene.store_line.shakes_hands = True


def name_from_a_file(scene: Scene) -> None:
    """The store has a name, which the kiosk's resolver reads from a file of its own (libnss-wrapper)."""
    hosts = scene.directory / "hosts"
    hosts.write_text(f"127.0.0.1 {STORE_NAME}\n")
    scene.endpoint_url = f"http://{STORE_NAME}:{scene.store_line.port}"
    scene.environment |= {"LD_PRELOAD": str(NSS_WRAPPER.path), "NSS_WRAPPER_HOSTS": str(hosts)}


@contextlib.contextmanager
def no_such_name(scene: Scene) -> Iterator[None]:
    """Nobody knows the store's name any more, and the connections there were are gone."""
    hosts = scene.directory / "hosts"
    known = hosts.read_text()
    hosts.write_text("127.0.0.1 another.kiosk.invalid\n")
    scene.store_line.cut()
    yield
    hosts.write_text(known)


# Time.


def machine_time(scene: Scene) -> None:
    """The kiosk lives by the machine's clock, and the courier can be shown a wrong one (faketime).

    The recorder is not: faketime would bend the timers of the simulated sound card, too.
    """
    scene.room_time = False
    scene.courier_environment = {
        "LD_PRELOAD": str(FAKETIME.path),
        "FAKETIME_TIMESTAMP_FILE": str(scene.directory / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    set_clock(scene, 0)


def set_clock(scene: Scene, off_s: int) -> None:
    """Let the kiosk's clock be wrong by so many seconds from now on."""
    fresh = scene.directory / "clock.new"
    fresh.write_text(f"{off_s:+d}\n")
    fresh.replace(scene.directory / "clock")


def clock_off(off_s: int) -> Strike:
    """The kiosk's clock is wrong; then it is set right."""

    @contextlib.contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        set_clock(scene, off_s)
        yield
        set_clock(scene, 0)

    return strike
