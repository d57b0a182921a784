"""Where pictures are shown: a live window on a terminal, or now and then a line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.demo.kiosk import CAP, SEGMENT_SECONDS, News
from agent.demo.picture import Picture, clock_time
from agent.status import RecorderStatus
from agent.units import human_bytes

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_FLOOR_DBFS = -60.0
_LOUD_DBFS = -20.0
_TOO_LOUD_DBFS = -3.0

_WIDEST = 100
_FRAME_LINES = 14
"""Lines of the window without news and invitations."""

_MOST_NEWS = 10
_LABEL_WIDTH = 10
_STEPS = "▁▂▃▄▅▆▇█"
_LINE_EVERY_S = 5.0

_COLOURS = {
    "starting": "yellow",
    "paused": "yellow",
    "muted": "yellow",
    "waiting_for_microphone": "red",
    "spool_full": "red",
    "disk_error": "red",
}


class Screen(Protocol):
    """Shows one picture after another."""

    def show(self, picture: Picture) -> None:
        """Show the newest one."""

    def close(self) -> None:
        """No more to come."""


class Lines:
    """For logs, pipes and dumb terminals: a line every few seconds and at each new phase, and all the news."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._last_s = time.monotonic()
        self._told: set[News] = set()

    def show(self, picture: Picture) -> None:
        for news in picture.news:
            if news not in self._told:
                self._told.add(news)
                self._say(f"  {clock_time(news)} {news.text}")
        now_s = time.monotonic()
        if picture.phase != self._phase or now_s - self._last_s >= _LINE_EVERY_S:
            self._phase, self._last_s = picture.phase, now_s
            self._say(str(picture))

    def close(self) -> None:
        pass

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class Window:
    """The whole terminal, until it is closed."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._open = False

    def show(self, picture: Picture) -> None:
        if not self._open:
            self._live.start()
            self._open = True
        self._live.update(Face(picture), refresh=True)

    def close(self) -> None:
        if self._open:
            self._live.stop()
            self._open = False


class Face:
    """A picture as rich draws it: as wide and as high as the terminal, within reason."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = min(options.max_width, _WIDEST)
        room = console.size.height - _FRAME_LINES
        body = Table.grid(expand=True)
        for line in self._lines(width - 4, ascii_only=options.ascii_only):
            body.add_row(line)
        for line in _footer(self._picture, room):
            body.add_row(line)
        yield Panel(
            body,
            title="[bold]kiosk-recorder try",
            title_align="left",
            subtitle="Ctrl-C: seal, upload, prove",
            subtitle_align="right",
            border_style="cyan",
            width=width,
        )

    def _lines(self, width: int, *, ascii_only: bool) -> Iterator[RenderableType]:
        picture, status = self._picture, self._picture.status
        colour = _COLOURS.get(status.state if status else "starting", "green")
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True, overflow="ellipsis")
        head.add_column(justify="right", no_wrap=True)
        mark = "*" if ascii_only else "●"
        head.add_row(Text(f"{mark} {picture.state}", style=f"bold {'cyan' if picture.phase else colour}"), picture.time)
        yield head
        trouble = status.trouble.replace("\n", " ") if status else ""
        yield _short(f"  {trouble or picture.title}", "red" if trouble else "dim")
        yield ""
        bar = Bar(width, ascii_only=ascii_only)
        yield bar.level(status)
        yield bar.history(picture.loudness)
        seconds = status.segment_seconds if status else 0.0
        yield bar.plain("segment", seconds / SEGMENT_SECONDS, f"{seconds:.0f} of {SEGMENT_SECONDS} s")
        used = status.spool_bytes if status else 0
        yield bar.plain("spool", used / CAP, f"{human_bytes(used)} of {human_bytes(CAP)}")
        yield ""
        yield _way(picture, " -> " if ascii_only else " ─► ")
        yield Text.assemble(("broker".ljust(_LABEL_WIDTH), "dim"), picture.broker, no_wrap=True, overflow="ellipsis")
        yield ""


def _way(picture: Picture, arrow: str) -> Text:
    return Text.assemble(
        ("segments".ljust(_LABEL_WIDTH), "dim"),
        "sealed ",
        (str(picture.sealed), "bold"),
        (arrow, "dim"),
        "uploaded ",
        (str(picture.stored), "bold"),
        (arrow, "dim"),
        "verified ",
        (str(picture.verified), "bold green"),
        (f"  {human_bytes(picture.stored_bytes)}" if picture.stored else "", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _footer(picture: Picture, room: int) -> Iterator[Text]:
    """News, and how to look for oneself, as far as there is room."""
    invited = picture.invitations if room >= len(picture.invitations) + 4 else ()
    count = max(0, min(_MOST_NEWS, room - (len(invited) + 1 if invited else 0)))
    news = list(picture.news)[-count:] if count else []
    yield from (_news(item) for item in news)
    yield from [Text("")] * (count - len(news))
    if invited:
        yield Text("")
        yield from (_short(f"$ {command}", "dim") for command in invited)


def _news(item: News) -> Text:
    line = _short(item.text, "red" if item.bad else "")
    return Text.assemble((f"{clock_time(item)}  ", "dim"), line, no_wrap=True, overflow="ellipsis")


def _short(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


class Bar:
    """Lines of one width: a label, a bar, a figure."""

    _FIGURE_WIDTH = 21

    def __init__(self, width: int, *, ascii_only: bool) -> None:
        self._width = max(8, width - _LABEL_WIDTH - self._FIGURE_WIDTH)
        self._ascii = ascii_only
        self._full, self._empty, self._peak = ("=", "-", "|") if ascii_only else ("━", "─", "╋")

    def plain(self, label: str, part: float, figure: str) -> Text:
        """A bar that is full at 1."""
        full = min(self._width, math.ceil(part * self._width))
        return self._line(label, [(self._full * full, "cyan"), (self._empty * (self._width - full), "dim")], figure)

    def level(self, status: RecorderStatus | None) -> Text:
        """RMS as a bar from -60 dBFS to 0 in the colours of a mixing desk, with a mark at the peak."""
        if status is None or status.level_rms_dbfs is None or status.level_peak_dbfs is None:
            return self._line("level", [(self._empty * self._width, "dim")], "")
        rms, peak = self._place(status.level_rms_dbfs), max(1, self._place(status.level_peak_dbfs))
        cells = []
        for cell in range(self._width):
            colour = _colour(_FLOOR_DBFS * (1 - (cell + 0.5) / self._width))
            sign = self._peak if cell == peak - 1 else self._full if cell < rms else self._empty
            cells.append((sign, "dim" if sign == self._empty else colour))
        if status.clipped_pct:
            return self._line("level", cells, f"{status.clipped_pct:.1f} % clipped", "bold red")
        return self._line("level", cells, f"{status.level_rms_dbfs:.0f}, peak {status.level_peak_dbfs:.0f} dBFS")

    def history(self, loudness: Sequence[float]) -> Text:
        """A column a second, the newest on the right."""
        if self._ascii or not loudness:
            return Text("")
        steps = "".join(_step(dbfs) for dbfs in loudness[-self._width :])
        return self._line("", [(steps.rjust(self._width), "green")], "a column a second", "dim")

    def _place(self, dbfs: float) -> int:
        return min(self._width, max(0, round((1 - dbfs / _FLOOR_DBFS) * self._width)))

    def _line(self, label: str, cells: Sequence[tuple[str, str]], figure: str, style: str = "") -> Text:
        label_part = (label.ljust(_LABEL_WIDTH), "dim")
        return Text.assemble(label_part, *cells, (f"  {figure}", style), no_wrap=True, overflow="ellipsis")


def _colour(dbfs: float) -> str:
    return "red" if dbfs > _TOO_LOUD_DBFS else "yellow" if dbfs > _LOUD_DBFS else "green"


def _step(dbfs: float) -> str:
    return _STEPS[min(len(_STEPS) - 1, max(0, int((1 - dbfs / _FLOOR_DBFS) * len(_STEPS))))]
