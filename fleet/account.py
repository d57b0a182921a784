"""What `kiosk-fleet verify` found out, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from agent.contract.keys import timestamp
from agent.terminal import counted, painter, say
from agent.units import human_seconds
from fleet.chain import Epoch
from fleet.evidence import KINDS, Kind
from fleet.verifying import Proof, Result

_SHOWN: Final = 20
"""Findings of one kind that are written out for a person."""

_PROOFS: Final[dict[Proof, str]] = {
    "attested": "by the SHA-256 the store keeps",
    "read": "by reading",
    "measured": "by name and size alone",
}


def document(result: Result) -> dict[str, Any]:
    """Everything, for programs."""
    evidence = result.evidence
    objects, seconds = evidence.verified()
    return {
        "site": result.site,
        "device": result.device,
        "good": result.good,
        "verified": {"recordings": objects, "seconds": round(seconds, 3), "by": dict(result.proved)},
        "otherwise": _sums(evidence.otherwise()),
        "gaps": _sums(evidence.gaps()),
        "copies": evidence.copies(),
        "unproven_objects": result.unproven,
        "manifests": result.chain.manifests,
        "epochs": [
            {
                "epoch": epoch.name,
                "entries": epoch.reached,
                "whole": epoch.whole,
                "proved_until": epoch.until or None,
                "first_manifest": timestamp(epoch.began_ns),
            }
            for epoch in _in_order(result)
        ],
        "proved_until": _until(result) or None,
        "newest_head": _newest(result),
        "found": evidence.counted(),
        "findings": [asdict(finding) for finding in evidence.findings()],
    }


def show(result: Result) -> None:
    """The same for people."""
    paint = painter()
    until = _until(result)
    verdict = paint("all is there and unaltered", "green") if result.good else paint("not as it should be", "red")
    reach = f"; the proof reaches to {until}" if until else ""
    say(f"{paint(f'{result.site}/{result.device}', 'bold')}: {verdict}{reach}")
    for name, text in _lines(result):
        say(f"  {name:11} {text}")
    for kind, count in result.evidence.counted().items():
        say(f"{paint('wrong', 'red')}: {count} {kind} ({KINDS[kind]})")
        _show_findings(result, kind, count)


def _show_findings(result: Result, kind: Kind, count: int) -> None:
    for finding in result.evidence.findings(kind, _SHOWN):
        say(f"  {finding.place}: {finding.text}")
    if count > _SHOWN:
        say(f"  and {count - _SHOWN} more; --json names all")


def _lines(result: Result) -> Iterator[tuple[str, str]]:
    evidence = result.evidence
    objects, seconds = evidence.verified()
    proofs = ", ".join(f"{count} {_PROOFS[proof]}" for proof, count in sorted(result.proved.items()))
    yield "verified", f"{human_seconds(seconds)} in {counted(objects, 'recording')}" + (f": {proofs}" if proofs else "")
    for state, (count, length_s) in evidence.otherwise().items():
        yield state, f"{counted(count, 'recording')}, {human_seconds(length_s)}"
    for reason, (count, length_s) in evidence.gaps().items():
        yield "gap", f"{reason}: {human_seconds(length_s)} in {count}"
    for epoch in _in_order(result):
        whole = "" if epoch.whole else ", not whole"
        yield "epoch", f"{epoch.name}: entries 1 to {epoch.reached}{whole}, until {epoch.until or '?'}"
    if len(result.chain.epochs) > 1:
        yield (
            "",
            "each but the first begins because a ledger was lost: what that knew since its last manifest is unproved",
        )
    if copies := evidence.copies():
        yield "copies", f"{counted(copies, 'recording')} there twice, uploaded again after a ledger was lost"
    if result.unproven:
        yield "unproved", f"{counted(result.unproven, 'object')} that no manifest tells of yet"
    if (newest := _newest(result)) is not None and newest["untold"]:
        yield "head", f"at {newest['said']} there were {newest['untold']} entries more than manifests tell"


def _in_order(result: Result) -> list[Epoch]:
    return sorted(result.chain.epochs.values(), key=lambda epoch: epoch.began_ns)


def _until(result: Result) -> str:
    """When the last manifest was made up to which everything is told."""
    epochs = _in_order(result)
    return epochs[-1].until if epochs else ""


def _newest(result: Result) -> dict[str, Any] | None:
    """The last head of the last epoch, and how many entries beyond the manifests it knows of."""
    epochs = _in_order(result)
    found = result.chain.newest_head(epochs[-1].name) if epochs else None
    if found is None:
        return None
    seq, said = found
    return {"entry": seq, "said": said, "untold": max(0, seq - epochs[-1].reached)}


def _sums(sums: dict[str, tuple[int, float]]) -> dict[str, dict[str, float]]:
    return {name: {"count": count, "seconds": round(seconds, 3)} for name, (count, seconds) in sums.items()}
