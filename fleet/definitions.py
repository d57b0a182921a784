"""What the flag document says of one flag: for all, for some, and in each phase of a roll-out.

Pure: a definition is the JSON object that stands below the flag's name, or None where it isn't in the document.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from agent.contract.flags import Flag
from agent.contract.rollout import Rollout

Definition = dict[str, Any] | None

Kind = Literal["group", "site", "device"]

DEFAULT: Final = "default"
"""Chosen instead of a variant: as if nobody had chosen."""


def for_all(flag: Flag, variant: str) -> Definition:
    """The same for every kiosk."""
    return None if variant == DEFAULT else _definition(flag, variant)


def for_some(flag: Flag, before: Definition, kind: Kind, name: str, variant: str) -> Definition:
    """As `before`, but for a group, a site or a device; what was chosen for exactly these is replaced."""
    condition = _condition(kind, name)
    definition = dict(before) if before is not None and before["state"] == "ENABLED" else _definition(flag, None)
    rule = definition.pop("targeting", None) or None
    chain = list(rule["if"]) if rule and set(rule) == {"if"} else [] if rule is None else [rule]
    # Pairs of condition and variant, and an odd one for everybody else.
    pairs = [chain[at : at + 2] for at in range(0, len(chain), 2)]
    pairs = [pair for pair in pairs if pair[0] != condition or len(pair) == 1]
    if variant != DEFAULT:
        pairs.insert(0, [condition, variant])
    chain = [part for pair in pairs for part in pair]
    if len(chain) > 1:
        definition["targeting"] = {"if": chain}
    elif chain and isinstance(chain[0], dict):
        definition["targeting"] = chain[0]
    elif chain:
        definition["defaultVariant"] = chain[0]
    return definition


def the_same_for_all(flag: Flag, definition: Definition) -> str | None:
    """The variant that every kiosk has by a definition; None when there are rules."""
    if definition is None or definition["state"] == "DISABLED":
        return flag.default
    if definition.get("targeting"):
        return None
    default = definition.get("defaultVariant")
    return flag.default if default is None else str(default)


def in_phase(flag: Flag, rollout: Rollout, phase: int) -> Definition:
    """The flag in one phase of a roll-out.

    Strictly nested: flagd gives the first share of `fractional` to the lowest buckets, so whoever is among the first
    10 % is among the first 50 %; the internal group is asked for before.
    """
    share = rollout.phases[phase]
    if share.name == "off":
        return rollout.before
    if share.percent == 100:
        return _definition(flag, rollout.variant)
    rule: list[Any] = [_condition("group", rollout.internal), rollout.variant]
    if share.percent:
        rule.append({"fractional": [[rollout.variant, share.percent], [rollout.base, 100 - share.percent]]})
    return _definition(flag, rollout.base) | {"targeting": {"if": rule}}


def _definition(flag: Flag, default: str | None) -> dict[str, Any]:
    # flagd wants values; which they are means nothing here but for boolean flags, which read better so.
    values = {"on": True, "off": False}
    variants = {name: values.get(name, name) for name in flag.variants}
    return {"state": "ENABLED", "variants": variants, "defaultVariant": default}


def _condition(kind: Kind, name: str) -> dict[str, Any]:
    if kind == "group":
        return {"in": [name, {"var": "groups"}]}
    return {"==": [{"var": "site" if kind == "site" else "targetingKey"}, name]}
