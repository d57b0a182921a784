from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract import secret_files
from agent.contract.secret_files import others_may_read


@pytest.mark.parametrize(
    ("mode", "shared"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o620, True), (0o601, True)]
)
def test_a_secret_is_for_its_owner_alone(tmp_path: Path, mode: int, shared: bool) -> None:  # noqa: FBT001
    secret = tmp_path / "password"
    secret.touch()
    secret.chmod(mode)
    assert others_may_read(secret) is shared


def test_what_systemd_gives_a_service_alone_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = tmp_path / "password"
    credential.touch()
    credential.chmod(0o440)
    assert others_may_read(credential)
    monkeypatch.setattr(secret_files, "_CREDENTIALS", tmp_path)
    assert not others_may_read(credential)
