"""Telemetry in Prometheus' text format, made from the metrics table.

Each metric is `kiosk_recorder_{name}` with the labels `site` and `device`. What nobody could tell has no line:
Prometheus has no null. Texts become labels of a 1, as is the custom there
(https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agent.contract.messages import Severity, Value
from agent.contract.metrics import METRICS, Metric

PREFIX: Final = "kiosk_recorder_"
_INFO: Final = f"{PREFIX}info"
_ALERT: Final = f"{PREFIX}alert"
_PICTURE: Final = f"{PREFIX}picture_timestamp_seconds"


def exposition(
    values: Mapping[str, Value], alerts: Mapping[str, Severity], *, wall_ns: int, labels: Mapping[str, str]
) -> str:
    """One picture of one kiosk. `labels` say whose it is; `alerts` are those that are raised."""
    lines = [line for metric in METRICS if metric.kind != "text" for line in _metric(metric, values, labels)]
    texts = {metric.name: str(values[metric.name]) for metric in METRICS if _is_told_text(metric, values)}
    lines += _family(_INFO, "gauge", "what can only be said in words", [({**labels, **texts}, 1)])
    raised = [({**labels, "alert": name, "severity": severity}, 1) for name, severity in sorted(alerts.items())]
    lines += _family(_ALERT, "gauge", "1 for each alert that is raised", raised)
    lines += _family(_PICTURE, "gauge", "when this was measured, seconds since 1970", [(labels, wall_ns / 1e9)])
    return "\n".join(lines) + "\n"


def _metric(metric: Metric, values: Mapping[str, Value], labels: Mapping[str, str]) -> Iterator[str]:
    value = values.get(metric.name)
    if isinstance(value, int | float):
        kind = "counter" if metric.kind == "counter" else "gauge"
        unit = f" ({metric.unit})" if metric.unit not in ("", "1") else ""
        yield from _family(PREFIX + metric.name, kind, metric.description + unit, [(labels, value)])


def _is_told_text(metric: Metric, values: Mapping[str, Value]) -> bool:
    return metric.kind == "text" and values.get(metric.name) is not None


def _family(
    name: str, kind: str, description: str, samples: Iterable[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    yield f"# HELP {name} {_escaped(description)}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_quoted(text)}"' for label, text in labels.items())
        yield f"{name}{{{pairs}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
