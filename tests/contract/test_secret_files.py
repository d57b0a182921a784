from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from agent.contract import age, secret_files, seeds
from agent.contract.secret_files import others_may_read, password, read, refuse_shared
from agent.courier.broker import Broker
from agent.courier.pen import Pen
from agent.errors import KioskError
from agent.settings import Custody, Device, Mqtt, Settings
from fleet import keyring
from fleet.broker import Address, Line
from tests.keys import age_key

ROOT: Final = Path(__file__).parents[2]
EVERY_MODE: Final = [0o640, 0o604, 0o620, 0o601, 0o644, 0o660, 0o777]
CANARY: Final = "canary-in-a-file"


@pytest.mark.parametrize(
    ("mode", "shared"), [(0o600, False), (0o400, False), *((open_mode, True) for open_mode in EVERY_MODE)]
)
def test_a_secret_is_for_its_owner_alone(tmp_path: Path, mode: int, shared: bool) -> None:  # noqa: FBT001
    secret = tmp_path / "password"
    secret.touch()
    secret.chmod(mode)
    assert others_may_read(secret) is shared


def test_what_systemd_gives_a_service_alone_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = tmp_path / "password"
    credential.write_text("sesame\n")
    credential.chmod(0o440)
    assert others_may_read(credential)
    monkeypatch.setattr(secret_files, "_CREDENTIALS", tmp_path)
    assert not others_may_read(credential)
    assert read(credential, "read password") == b"sesame\n"


def test_a_password_is_the_first_line(tmp_path: Path) -> None:
    file = secret(tmp_path, "sesame öffne dich\nno more of it\n")
    assert password(file, "read password") == "sesame öffne dich"
    file.write_text("")
    assert password(file, "read password") == ""


def test_what_is_no_text_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    file = secret(tmp_path, "")
    file.write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(KioskError, match="isn't UTF-8") as refused:
        password(file, "read password")
    assert "0xff" not in str(refused.value)


def test_a_secret_that_is_not_there_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(KioskError, match="No such file") as refused:
        read(tmp_path / "none", "read password", hint="make one", retryable=True)
    assert (refused.value.hint, refused.value.retryable) == ("make one", True)


def secret(directory: Path, content: str) -> Path:
    path = directory / "secret"
    path.write_text(content)
    path.chmod(0o600)
    return path


def as_device_key(path: Path) -> None:
    pen = Pen(Settings(device=Device(site="north", id="room-1"), custody=Custody(key=path)))
    assert pen.public is None
    raise pen.trouble or AssertionError("it was taken")


def as_the_kiosks_password(path: Path) -> None:
    Broker(Mqtt(url="mqtt://127.0.0.1", username="room-1", password_file=path), "room-1", None, lambda: None)


def as_the_kiosks_certificate_key(path: Path) -> None:
    Broker(Mqtt(url="mqtts://127.0.0.1", certificate=path, key=path), "room-1", None, lambda: None)


def as_an_admins_password(path: Path) -> None:
    with Line(Address("mqtt://127.0.0.1:1", username="alice", password_file=path)):
        pass


def as_an_admins_certificate_key(path: Path) -> None:
    with Line(Address("mqtts://127.0.0.1:1", certificate=path, key=path)):
        pass


READERS: Final[list[Callable[[Path], object]]] = [
    lambda path: seeds.load(path, ""),
    age.identities,
    keyring.load,
    as_device_key,
    as_the_kiosks_password,
    as_the_kiosks_certificate_key,
    as_an_admins_password,
    as_an_admins_certificate_key,
    lambda path: refuse_shared(path, "load certificates"),
]


@pytest.mark.parametrize("mode", [0o640, 0o604])
@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_a_secret_refuses_what_others_may_read(
    tmp_path: Path, reader: Callable[[Path], object], mode: int
) -> None:
    file = Path(age_key(tmp_path).secret)
    file.write_text(CANARY)
    file.chmod(mode)
    with pytest.raises(KioskError) as refused:
        reader(file)
    assert (refused.value.cause, refused.value.hint) == ("others may read it", f"chmod 600 {file}")
    assert CANARY not in str(refused.value)


def test_nobody_else_judges_who_may_read_a_secret() -> None:
    """Permissions of others are looked at in one module alone, and OpenSSL gets no key that it hasn't seen."""
    judges, loaders = set(), set()
    for part in ("agent", "fleet", "hw"):
        for path in (ROOT / part).rglob("*.py"):
            text = path.read_text()
            name = str(path.relative_to(ROOT))
            if re.search(r"& 0o0?[0-7]?[0-7]\b", text):
                judges.add(name)
            if "load_cert_chain" in text and not re.search(r"refuse_shared|others_may_read", text):
                loaders.add(name)
    assert (judges, loaders) == ({"agent/contract/secret_files.py"}, set())
