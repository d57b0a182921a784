"""What the courier remembers of commands, from one process to the next."""

from __future__ import annotations

from pathlib import Path

from agent.courier.book import Book


def test_what_was_obeyed_is_known_to_the_next_process_and_what_was_begun_is_unfinished(tmp_path: Path) -> None:
    first = Book(tmp_path / "commands.db")
    for name in ("a" * 32, "b" * 32):
        first.begin(name, "report", expires_ns=10, now_ns=5)
    first.finish("a" * 32, {"ok": True})
    second = Book(tmp_path / "commands.db")
    assert second.open()
    assert (second.knows("a" * 32), second.knows("b" * 32), second.knows("c" * 32)) == (True, True, False)
    assert second.unfinished == {"b" * 32: "report"}


def test_a_damaged_book_is_set_aside_and_one_that_cannot_be_read_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "commands.db"
    path.write_bytes(b"nonsense" * 1000)
    book = Book(path)
    assert not book.open()
    assert book.open()
    assert path.with_suffix(".damaged").exists()
    assert not Book(tmp_path / "none" / "commands.db").open()
