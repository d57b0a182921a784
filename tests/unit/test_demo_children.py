from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.commands.starting import ending_with_parent
from agent.demo.children import Wish


@pytest.fixture
def wish() -> Iterator[Wish]:
    made = Wish()
    yield made
    made.forget()


def test_the_first_signal_is_a_wish_the_second_an_order(wish: Wish) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert wish.uttered
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_order_waits_for_the_end_of_what_must_not_be_left_half_done(wish: Wish) -> None:
    done = False

    def do_it() -> None:
        nonlocal done
        with wish.held():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            done = True

    with pytest.raises(KeyboardInterrupt):
        do_it()
    assert done


def test_a_wish_alone_interrupts_nothing(wish: Wish) -> None:
    with wish.held():
        os.kill(os.getpid(), signal.SIGTERM)
    assert wish.uttered


def test_a_child_whose_parent_is_there_runs(tmp_path: Path) -> None:
    subprocess.run([*ending_with_parent(), "touch", tmp_path / "a file with blanks"], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a file with blanks"]


def test_a_child_whose_parent_died_before_they_were_tied_does_nothing(tmp_path: Path) -> None:
    command = [*ending_with_parent(), "touch", str(tmp_path / "done")]
    # Its parent is another than the one the command was made for, as when that one has died.
    other = subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.call({command!r})"], check=False)
    assert other.returncode == 0
    assert list(tmp_path.iterdir()) == []
