"""Upload hours that were ordered by command, as a person at the kiosk sees them."""

from __future__ import annotations

from pathlib import Path

from agent.commands.kiosk import ordered_hours
from agent.contract.commands import compose
from agent.contract.signed import public_key, sign
from agent.courier.book import Book
from agent.settings import Commands, Device, Settings, Spool

SEED = bytes(range(32))


def test_hours_count_as_long_as_the_key_that_ordered_them_is_listed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    device, spool = Device(site="north", id="room-12"), Spool(path=tmp_path)
    listed = Settings(device=device, spool=spool, commands=Commands(admin_keys=(public_key(SEED),)))
    assert ordered_hours(listed) is None
    document = compose(
        "set-upload-hours", {"hours": ["20:00-06:00"]}, site="north", device="room-12", now_ns=0, lifetime_s=60
    )
    book = Book(tmp_path / "state" / "commands.db")
    assert book.stand("set-upload-hours", sign("command", document, SEED))
    assert [str(hours) for hours in ordered_hours(listed) or ()] == ["20:00-06:00"]
    assert ordered_hours(Settings(device=device, spool=spool)) is None
