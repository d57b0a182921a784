from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from hw.kernel import count_of, entries, hexadecimal_of, number_of, told


def test_a_file_longer_than_a_page_is_read_to_its_end() -> None:
    """/proc gives at most a page a read."""
    found = told(Path("/proc/self/smaps"))
    assert found is not None
    assert len(found) > 4 * mmap.PAGESIZE


def test_what_is_told_ends_at_the_first_nul_and_has_no_white_space_around_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content, text in ((b" a b \n\0c", "a b"), (b"\0", None), (b"\n", None), (b"\xff", "\ufffd"), (b"", None)):
        file.write_bytes(content)
        assert told(file) == text
    assert told(tmp_path) is None
    assert told(tmp_path / "none") is None
    assert told(tmp_path / "x\0y") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-12", -12),
        ("007", 7),
        ("+1", None),
        ("1_0", None),
        ("1.0", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_a_number_is_one_as_the_kernel_writes_it(text: str | None, number: int | None) -> None:
    assert number_of(text) == number
    assert count_of(text) == (number if number != -12 else None)


@pytest.mark.parametrize(("text", "number"), [("0x0b", 11), ("0XFF", 255), ("0x", None), ("ff", None), (None, None)])
def test_a_hexadecimal_number_says_that_it_is_one(text: str | None, number: int | None) -> None:
    assert hexadecimal_of(text) == number


def test_entries_come_by_name_and_none_from_nowhere(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert [entry.name for entry in entries(tmp_path)] == ["a", "b"]
    assert list(entries(tmp_path / "a")) == list(entries(tmp_path / "none")) == []
