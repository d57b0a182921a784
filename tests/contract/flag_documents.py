"""Flag documents, as an admin writes them."""

from __future__ import annotations

from typing import Any

INTERNAL: dict[str, Any] = {"in": ["internal", {"var": "groups"}]}


def document(version: int = 1, rule: object = None, *, default: str = "on", **flag: object) -> dict[str, Any]:
    """One that chooses `offline_recording` by a rule, or else `default` for all."""
    told: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default}
    if rule is not None:
        told["targeting"] = rule
    return {
        "metadata": {"version": version, "issued": "2026-03-01T08:00:00Z"},
        "flags": {"offline_recording": told | flag},
    }


def rollout(percentage: int) -> dict[str, Any]:
    """The rule of a roll-out's phase: the internal group first, then a share of all the others."""
    share = {"fractional": [["on", percentage], ["off", 100 - percentage]]}
    return {"if": [INTERNAL, "on", share]}
