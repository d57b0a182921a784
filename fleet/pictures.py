"""What each kiosk tells of itself, read off what the broker keeps: nothing in it is trusted to be well-formed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from agent.contract.alerts import NAMES as ALERTS
from agent.contract.evaluation import FlagDocument, Target, variants
from agent.contract.messages import Topics
from agent.contract.rollout import Counters
from fleet import roster
from fleet.roster import Kiosk

TOPICS: Final = ("birth", "telemetry", "alert/+")
"""Below a kiosk's own, besides its status."""

_COUNTERS: Final = tuple(name for name in Counters.model_fields if name != "epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One kiosk as it is now."""

    kiosk: Kiosk
    target: Target
    """As flag rules see it."""
    by_environment: frozenset[str] = frozenset()
    """Flags that its technician chose: no document has a say in them."""
    variants: Mapping[str, str] | None = None
    """What it has, by flag; None while it tells nothing."""
    flags_version: int | None = None
    """The flag document that counts there."""
    counters: Counters | None = None
    """None while it tells none."""
    critical: tuple[str, ...] = ()
    """Names of its critical alerts."""

    @property
    def name(self) -> str:
        return str(self.kiosk)

    def has(self, flag: str) -> str | None:
        """The variant it tells of; None when it says nothing of that flag, or nothing at all."""
        return None if self.variants is None else self.variants.get(flag)

    def should_have(self, document: FlagDocument | None, flag: str) -> str:
        """The variant that a document gives it. Raises Refused (`unusable`)."""
        return variants(document or FlagDocument(1, "", {}), self.target)[flag]


def read(retained: Mapping[str, bytes]) -> list[Picture]:
    """Every kiosk that `retained` (of `TOPICS`) tells of, in order."""
    return [_picture(kiosk, retained) for kiosk in roster.read(retained)]


def snapshot(pictures: Sequence[Picture]) -> dict[str, Counters]:
    """What each has counted by now, by its name; those that tell nothing are left out."""
    return {each.name: each.counters for each in pictures if each.counters is not None}


def _picture(kiosk: Kiosk, retained: Mapping[str, bytes]) -> Picture:
    topics = Topics(kiosk.site, kiosk.device)
    birth = _object(retained.get(topics.birth))
    model, programs, chosen = (birth.get(name) for name in ("model", "versions", "flags_by_environment"))
    version = programs.get("kiosk-recorder") if isinstance(programs, dict) else None
    # A kiosk's last words are kept for a while: what it told isn't what it tells.
    told = _object(retained.get(topics.telemetry)) if kiosk.online else {}
    number = told.get("flags_version")
    return Picture(
        kiosk=kiosk,
        target=Target(
            device=kiosk.device,
            site=kiosk.site,
            groups=kiosk.groups,
            model=model if isinstance(model, str) else "",
            version=version if isinstance(version, str) else "",
        ),
        by_environment=frozenset(chosen) if isinstance(chosen, dict) else frozenset(),
        variants=_variants(told.get("flags")),
        flags_version=number if type(number) is int else None,
        counters=_counters(told),
        critical=tuple(
            name for name in ALERTS if _object(retained.get(topics.alert(name))).get("severity") == "critical"
        ),
    )


def _variants(text: object) -> dict[str, str] | None:
    if not isinstance(text, str):
        return None
    return {name: variant for name, equals, variant in (part.partition("=") for part in text.split(",")) if equals}


def _counters(told: Mapping[str, Any]) -> Counters | None:
    head = told.get("custody_head")
    try:
        return Counters(
            epoch=head.partition("-")[0] if isinstance(head, str) else "",
            **{name: told.get(name) for name in _COUNTERS},  # type: ignore[arg-type]
        )
    except ValidationError:
        return None


def _object(payload: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(payload or b"null")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
