"""What the documentation says of the contract, made from the code: `python -m agent.contract.documentation [--check]`.

Between `<!-- NAME: … -->` and `<!-- end of NAME -->` docs/MQTT.md holds what `BLOCKS[NAME]` makes; docs/schemas/ has a
file for each of `SCHEMAS`. Another block is another entry of `BLOCKS` and the two marks in the text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.contract.alerts import ALERTS, Alert, amount
from agent.contract.events import EVENTS, Event, Fact
from agent.contract.events import SOURCES as EVENT_SOURCES
from agent.contract.metrics import METRICS, SOURCES, Metric
from agent.contract.schemas import SCHEMAS, schema
from agent.units import human_seconds

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


def metrics() -> str:
    """Every metric with its unit, source and definition."""
    rows = ["| name | unit | kind | source | what it is | null |", "|---|---|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, METRICS)])


def sources() -> str:
    """Who knows what."""
    return "\n".join(f"- `{name}`: {meaning}." for name, meaning in SOURCES.items())


def schemas() -> str:
    """Which schema is of what."""
    rows = ["| schema | of |", "|---|---|"]
    return "\n".join(
        [*rows, *(f"| [{name}](schemas/{name}.json) | {_code(of)} |" for name, (of, _) in SCHEMAS.items())]
    )


def alerts() -> str:
    """Every alert with its defaults, why these, and what to do."""
    rows = ["| alert | watches | warning | critical | hysteresis | raised after | cleared after |", "|---" * 7 + "|"]
    rows += [
        f"| `{row.name}` | {_watched(row)} | {_limit(row, row.warning)} | {_limit(row, row.critical)} "
        f"| {amount(row, row.hysteresis)} | {human_seconds(row.raise_after_s)} | {human_seconds(row.clear_after_s)} |"
        for row in ALERTS
    ]
    rows += ["", "| alert | what is wrong | what to do | why these limits |", "|---|---|---|---|"]
    rows += [f"| `{row.name}` | {row.description} | {row.advice} | {row.why} |" for row in ALERTS]
    return "\n".join(rows)


def events() -> str:
    """Every event with its facts, by who tells it."""
    rows = []
    for source, meaning in EVENT_SOURCES.items():
        rows += [f"Told by {meaning}:", "", "| event | what happened | facts |", "|---|---|---|"]
        rows += [f"| `{row.name}` | {row.definition} | {_facts(row)} |" for row in EVENTS if row.source == source]
        rows.append("")
    return "\n".join(rows[:-1])


def _facts(row: Event) -> str:
    return "; ".join(map(_fact, row.facts))


def _fact(fact: Fact) -> str:
    kind = "" if fact.choices else f", {fact.kind}"
    unit = f", {fact.unit}" if fact.unit not in ("", "1") else ""
    choices = f" ({', '.join(f'`{choice}`' for choice in fact.choices)})" if fact.choices else ""
    null = f"; null: {fact.null}" if fact.null else ""
    return f"`{fact.name}`{kind}{unit}: {fact.definition}{choices}{null}"


def _watched(row: Alert) -> str:
    return f"`{row.metric}`: {row.watches}" if row.metric else row.watches


def _limit(row: Alert, threshold: float | None) -> str:
    if threshold is None:
        return "off"
    return f"{'>' if row.direction == 'above' else '<'} {amount(row, threshold)}"


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "sources": sources,
    "metrics": metrics,
    "alerts": alerts,
    "events": events,
    "schemas": schemas,
}
"""By the name in the marks."""


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that is made here, in whole or in part, and what it should hold."""
    contract = DOCS / "MQTT.md"
    yield contract, _filled(contract.read_text())
    for name in SCHEMAS:
        yield DOCS / "schemas" / f"{name}.json", json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def outdated() -> list[Path]:
    """The files that the code has left behind. Raises ValueError when a block has no place."""
    made = dict(texts())
    strangers = set((DOCS / "schemas").glob("*")) - made.keys()
    return sorted([path for path, text in made.items() if not path.exists() or path.read_text() != text] + [*strangers])


def _filled(text: str) -> str:
    for name, make in BLOCKS.items():
        parts = re.split(rf"(<!-- {name}: .*-->\n|<!-- end of {name} -->)", text)
        if len(parts) != 5:
            raise ValueError(f"docs/MQTT.md has no place for {name}, or several")
        parts[2] = make() + "\n"
        text = "".join(parts)
    return text


def _row(metric: Metric) -> str:
    described = metric.description[0].upper() + metric.description[1:]
    what = ". ".join(part.rstrip(".") for part in (described, metric.definition) if part)
    if metric.choices:
        what += f". One of {', '.join(f'`{choice}`' for choice in metric.choices)}"
    return f"| `{metric.name}` | {metric.unit} | {metric.kind} | {metric.source} | {what}. | {metric.null or 'never'} |"


def _code(of: str) -> str:
    """Topics as code, words as words."""
    return ", ".join(f"`{part}`" if "/" in part and " " not in part else part for part in of.split(", "))


def main(arguments: list[str]) -> int:
    """Write what has changed, or with --check only name it. The exit status: 1 when it was asked and is outdated."""
    behind = outdated()
    for path in behind:
        print(path)  # noqa: T201 (a command)
    if "--check" in arguments:
        return 1 if behind else 0
    made = dict(texts())
    (DOCS / "schemas").mkdir(exist_ok=True)
    for path in behind:
        if path in made:
            path.write_text(made[path])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
