"""Whether the recorder gets on, for the watchdog (DESIGN §1): a pure decision.

Fed is who hears and writes, who may not hear (schedule, pause, mute), and who knows that the microphone is gone and
looks for it. A thread that hangs, a microphone that gives overruns alone, a writer that finishes no turn is not.
"""

from __future__ import annotations

from typing import Final

from agent.contract.metrics import RecorderState
from agent.units import NS_PER_S

HEARD_WITHIN_NS: Final = 15 * NS_PER_S
"""A frozen microphone is noticed in 3 s and looked for every second; opening one may take some."""

WRITTEN_WITHIN_NS: Final = 45 * NS_PER_S
"""A stuck card is left after 15 s; memory that fails is tried again every 5 s."""


def halted(
    now_ns: int, microphone: RecorderState, turned_ns: int | None, heard_ns: int | None, written_ns: int | None
) -> str:
    """Why nothing gets on, or "".

    Monotonic times of capture's last turn, the newest frame, and the writer's last turn; None: not yet.
    """
    if microphone == "starting" or turned_ns is None:
        return "the microphone hasn't been tried yet"
    if now_ns - turned_ns > HEARD_WITHIN_NS:
        return f"capture hangs since {_seconds(now_ns - turned_ns)}"
    if microphone == "recording" and (heard_ns is None or now_ns - heard_ns > HEARD_WITHIN_NS):
        return "the microphone gives no sound, and isn't given up"
    if written_ns is None:
        return "the spool isn't ready yet"
    if now_ns - written_ns > WRITTEN_WITHIN_NS:
        return f"nothing was written since {_seconds(now_ns - written_ns)}"
    return ""


def _seconds(ns: int) -> str:
    return f"{ns // NS_PER_S} s"
