"""What a document for people asks its reader to type, and where it sends them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = ("PROVISIONING", "DEPLOYMENT", "PRODUCTION", "CHECKLIST", "TROUBLESHOOTING", "MESSAGES")
"""Those whose every command is run."""

PROGRAMS = {
    "./install.sh", "/opt/kiosk-recorder/current/install.sh", "age-keygen", "alsamixer", "df", "journalctl",
    "kiosk-fleet", "kiosk-recorder", "mosquitto_sub", "systemctl", "timedatectl",
}  # fmt: skip
"""Words with which a command in running text begins; a lone word only names its program."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Command:
    """A line that a reader types, without `sudo`."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        """Up to the first pipe: the program and its arguments."""
        words = shlex.split(self.line)
        return words[: words.index("|")] if "|" in words else words


def text(page: str) -> str:
    """Of docs/`page`.md."""
    return (ROOT / "docs" / f"{page}.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    """The contents of its fenced blocks."""
    return [content for kind, content in _FENCE.findall(text(page)) if kind == language]


def commands(page: str) -> list[Command]:
    """Whatever stands in a block of the shell's, and what in running text begins with a program; each once."""
    return [Command(page, line) for line in dict.fromkeys(_lines(page))]


def _lines(page: str) -> Iterator[str]:
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            yield line.removeprefix("sudo ")
    for span in _CODE.findall(_FENCE.sub("", text(page))):
        line = span.removeprefix("sudo ")
        first, _, rest = line.partition(" ")
        if first in PROGRAMS and rest:
            yield line


def links(page: Path) -> list[str]:
    """Where a document sends its reader within this project: file#heading."""
    return [link for link in _LINK.findall(_FENCE.sub("", page.read_text())) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Its headings, as links name them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
