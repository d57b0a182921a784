"""What came out, for a terminal, for paper and for programs."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.checkup.finding import VERDICTS, Section, Verdict, counts
from agent.terminal import Style

_STYLES: Final[dict[Verdict, Style]] = {"green": "green", "yellow": "yellow", "red": "red", "grey": "dim"}

_MEANING: Final[dict[Verdict, str]] = {
    "red": "don't leave it like this",
    "yellow": "works, but look at it",
    "green": "good",
    "grey": "couldn't be told here",
}

_SIGNATURES: Final = ("Technician", "Date", "Signature")

_WIDTH: Final = 110

Paint = Callable[[str, Style], str]


@dataclass(frozen=True, slots=True)
class Head:
    """Whose report it is."""

    kiosk: str
    when: str
    """ISO 8601, in the kiosk's zone."""
    board: str
    versions: Mapping[str, str]


def section_lines(section: Section, paint: Paint) -> Iterator[str]:
    """One area for a person: a line a finding, the way out below it."""
    yield paint(section.area, "bold")
    for finding in section.findings:
        verdict = paint(f"{finding.verdict:6}", _STYLES[finding.verdict])
        yield f"  {verdict}  {finding.subject}: {finding.text}"
        if finding.way_out:
            yield f"          → {finding.way_out}"


def summary(sections: Sequence[Section], paint: Paint) -> str:
    """How many of each, most pressing first."""
    found = counts(sections)
    parts = [paint(f"{count} {verdict}", _STYLES[verdict]) for verdict, count in found.items() if count]
    if not parts:
        return "nothing was looked at"
    worst = next(verdict for verdict in VERDICTS if found[verdict])
    return f"{', '.join(parts)}: {_MEANING[worst]}"


def document(sections: Sequence[Section], head: Head) -> dict[str, Any]:
    """For programs."""
    findings = [
        {"area": section.area, **asdict(finding), "facts": dict(finding.facts)}
        for section in sections
        for finding in section.findings
    ]
    found = counts(sections)
    return {
        "kiosk": head.kiosk,
        "time": head.when,
        "board": head.board,
        "versions": dict(head.versions),
        "good": not found["red"],
        "counts": found,
        "findings": findings,
    }


def as_text(sections: Sequence[Section], head: Head) -> str:
    """A page for a printer that only knows characters."""
    lines = [f"kiosk-recorder check: {head.kiosk}", ""]
    lines += [f"{name:9} {value}" for name, value in _head_rows(head)]
    for section in sections:
        lines += ["", section.area]
        for finding in section.findings:
            lines += textwrap.wrap(
                f"[{finding.verdict:^6}] {finding.subject}: {finding.text}", _WIDTH, subsequent_indent=" " * 9
            )
            if finding.way_out:
                lines += textwrap.wrap(
                    f"→ {finding.way_out}", _WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 11
                )
    lines += ["", summary(sections, lambda text, _style: text), ""]
    lines += [f"{name:11} {'_' * 40}\n" for name in _SIGNATURES]
    return "\n".join(lines)


def as_html(sections: Sequence[Section], head: Head) -> str:
    """One file that a browser prints on a page or two; it loads nothing."""
    rows = []
    for section in sections:
        rows.append(f'<tr><th colspan="3">{html.escape(section.area)}</th></tr>')
        for finding in section.findings:
            way_out = f"<br>→ {html.escape(finding.way_out)}" if finding.way_out else ""
            rows.append(
                f'<tr><td class="{finding.verdict}">{finding.verdict}</td><td>{html.escape(finding.subject)}</td>'
                f"<td>{html.escape(finding.text)}{way_out}</td></tr>"
            )
    about = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in _head_rows(head))
    signatures = "".join(f"<dt>{name}</dt><dd class=line></dd>" for name in _SIGNATURES)
    title = html.escape(f"kiosk-recorder check: {head.kiosk}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_CSS}</style>"
        f"<h1>{title}</h1><dl>{about}</dl><table>{''.join(rows)}</table>"
        f"<p><b>{html.escape(summary(sections, lambda text, _style: text))}</b></p><dl>{signatures}</dl></html>\n"
    )


_CSS: Final = (
    "body{font:10pt sans-serif;margin:2em;max-width:60em}table{border-collapse:collapse;width:100%}"
    "th{text-align:left;padding-top:.8em}td{border-top:1px solid #ccc;padding:.2em .5em;vertical-align:top}"
    "td:first-child{width:4em;font-weight:bold}.green{color:#176b2c}.yellow{color:#8a6100}.red{color:#b00020}"
    ".grey{color:#666}dt{float:left;clear:left;width:7em}dd{margin:0 0 .3em 8em}"
    ".line{border-bottom:1px solid #000;height:1.6em;width:20em}"
)


def _head_rows(head: Head) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in head.versions.items())
    return [("Time", head.when), ("Board", head.board), ("Versions", versions)]
