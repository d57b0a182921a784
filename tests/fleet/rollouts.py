"""Roll-out documents for tests."""

from __future__ import annotations

from typing import Any

from agent.contract.rollout import Counters, Metadata, Phase, Rollout, Step
from fleet.rolling import PLAN

KEY = "ed25519:" + "A" * 43 + "="
NOW = "2026-03-01T08:00:00.000Z"


def rollout(phase: int = 0, **more: Any) -> Rollout:  # noqa: ANN401
    """One of `offline_recording off` as `start` makes it, in the plan's n-th phase."""
    step = Step(at=NOW, action="start", flag="offline_recording", variant="off", phase="off", by=KEY)
    parts: dict[str, Any] = {
        "metadata": Metadata(version=1, issued=NOW),
        "flag": "offline_recording",
        "variant": "off",
        "base": "on",
        "before": None,
        "internal": "internal",
        "phases": tuple(Phase(name=each.name, soak_s=each.soak_s) for each in PLAN),
        "phase": phase,
        "since": NOW,
        "rolled_back": False,
        "flags_version": 0,
        "snapshot": {},
        "steps": (step,),
    }
    return Rollout(**parts | more)


def snapshot(kiosks: int) -> dict[str, Counters]:
    """Of so many, none of whose numbers is small."""
    counted = Counters(
        epoch="0123456789ab",
        upload_attempts_total=1_234_567,
        upload_failures_total=12_345,
        segments_total=1_234_567,
        segment_errors_total=123,
    )
    return {f"clinic-north/room-{number:05d}": counted for number in range(kiosks)}
