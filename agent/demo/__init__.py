"""`kiosk-recorder try`: the whole thing at work on one machine, and the proof that it worked."""

from __future__ import annotations

from pathlib import Path


def run_try(*, seconds: float | None, keep: Path | None, pcm: str | None, plain_output: bool, sealed: bool) -> int:
    """See `agent.demo.story.run_try`; imported when called, because it takes numpy and rich along."""
    from agent.demo import story

    return story.run_try(seconds=seconds, keep=keep, pcm=pcm, plain_output=plain_output, sealed=sealed)


__all__ = ["run_try"]
