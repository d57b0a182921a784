"""What the demonstration shows fits its terminal, whatever its size, and says each thing once."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from agent.demo.kiosk import News
from agent.demo.picture import Picture
from agent.demo.screens import Face, Lines
from agent.status import RecorderStatus


def status(
    *, rms: float | None = -24.0, peak: float | None = -11.0, clipped: float = 0.0, trouble: str = ""
) -> RecorderStatus:
    return RecorderStatus(
        pid=1,
        boot="b",
        state="recording" if rms is not None else "waiting_for_microphone",
        since_ns=0,
        updated_ns=0,
        level_rms_dbfs=rms,
        level_peak_dbfs=peak,
        clipped_pct=clipped,
        segment_seconds=3.0,
        spool_bytes=5 * 2**20,
        trouble=trouble,
    )


def picture(**changes: object) -> Picture:
    shown: dict[str, object] = {
        "phase": "",
        "title": "A microphone with quite a long name of its own, by a maker with one (plughw:CARD=Microphone)",
        "elapsed_s": 83.0,
        "left_s": 37.0,
        "status": status(),
        "loudness": [-60.0, -30.0, 0.0] * 60,
        "sealed": 1234,
        "stored": 1233,
        "stored_bytes": 10**9,
        "verified": 1232,
        "broker": "the kiosk is online, 1234 telemetry reports",
        "news": [News(n * 10**9, f"0123456789ab-{n:06d} sealed, 5.0 s, 84.5 KiB") for n in range(30)],
        "invitations": ["curl http://127.0.0.1:12345/kiosk-demo", "list --config /tmp/somewhere/" + "x" * 80],
    }
    return Picture(**(shown | changes))  # type: ignore[arg-type]


def drawn(shown: Picture, width: int = 100, height: int = 30, encoding: str = "utf-8") -> list[str]:
    """The lines of the window, in a terminal of this size."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="")
    console = Console(width=width, height=height, file=terminal, color_system=None)
    console.print(Face(shown))
    terminal.flush()
    printed = terminal.buffer
    assert isinstance(printed, io.BytesIO)
    return printed.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [16, 20, 24, 30, 80])
def test_the_window_never_exceeds_its_terminal(width: int, height: int) -> None:
    lines = drawn(picture(), width, height)
    assert len(lines) <= height
    assert {cell_len(line) for line in lines} == {min(width, 100)}


def test_a_small_terminal_still_shows_what_matters() -> None:
    text = "\n".join(drawn(picture(), 60, 20))
    for expected in (
        "recording",
        "1:23, 0:37 left",
        "-24, peak -11 dBFS",
        "3 of 5 s",
        "5 MiB of 20 MiB",
        "verified 1232",
    ):
        assert expected in text
    assert "0123456789ab-000029 sealed" in text, "the latest news"


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = "\n".join(drawn(picture(), encoding="ascii"))
    assert "sealed 1234 -> uploaded 1233 -> verified 1232" in text


def bar(shown: Picture, label: str) -> str:
    """The line of that bar."""
    return next(line for line in drawn(shown) if line.startswith(f"│ {label}"))


def test_the_level_grows_with_the_sound_and_marks_the_peak() -> None:
    quiet, loud = (bar(picture(status=status(rms=rms, peak=rms + 12)), "level") for rms in (-50.0, -20.0))
    assert 0 < quiet.count("━") < loud.count("━")
    assert quiet.index("╋") < loud.index("╋")


def test_levels_off_the_scale_stay_on_the_bar() -> None:
    assert "╋" in bar(picture(status=status(rms=-96.0, peak=-90.0)), "level")
    assert "╋" in bar(picture(status=status(rms=0.0, peak=0.0)), "level")


def test_clipping_is_said() -> None:
    assert "0.5 % clipped" in bar(picture(status=status(clipped=0.5)), "level")


def test_trouble_takes_the_place_of_the_microphones_name() -> None:
    text = "\n".join(drawn(picture(status=status(rms=None, trouble="no such card\n  → plug it in"))))
    assert "waiting for microphone" in text
    assert "no such card   → plug it in" in text
    assert "quite a long name" not in text


def test_before_the_recorder_says_anything_it_is_starting() -> None:
    assert "starting" in drawn(picture(status=None, news=[], loudness=[]))[1]


def test_lines_tell_each_piece_of_news_once_and_each_phase() -> None:
    told = io.StringIO()
    lines = Lines(Console(file=told, width=60))
    for _ in range(3):
        lines.show(picture(news=[News(1, "one"), News(2, "two")]))
    lines.show(picture(news=[News(1, "one"), News(2, "two"), News(3, "three")], phase="sealing what is open"))
    text = told.getvalue()
    assert [text.count(word) for word in (" one\n", " two\n", " three\n")] == [1, 1, 1]
    assert text.count("sealing what is open") == 1
    assert "sealed 1234, uploaded 1233, verified 1232" in text
