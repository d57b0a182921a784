"""Who gets which variant: the part of flagd's rule language that a flag document may use.

flagd's rules are JSONLogic, which has loops, arithmetic and conversions that fail on one kiosk and not on another. What
is allowed here is typed and has no loops: every expression is a truth, a text or a variant, known beforehand to be one.
So a rule that passes gives every kiosk one of the flag's variants, whatever the kiosk is called, in a time that grows
with the rule's length alone; and a slip of the pen is told to the admin instead of giving everybody the default.

    variant   "on"  null (the flag's default)  {"if": [truth, variant, …, variant]}  {"fractional": […]}
    truth     true  {"==": [text, text]}  {"in": [text, texts]}  {"and": [truth, …]}  {"sem_ver": […]} …
    text      "north"  {"var": "site"}  {"cat": [text, …]}
    texts     ["north", "south"]  {"var": "groups"}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Final, NoReturn

from agent.contract.flags import Flag
from agent.contract.signed import Refused

VERSION: Final = re.compile(r"(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){0,2}(-[0-9a-z]{1,20})?", re.ASCII)
"""What `sem_ver` compares: "1", "1.4", "1.4.0-rc1". Always used with `fullmatch`."""

TEXTS: Final = ("targetingKey", "site", "model", "version", "$flagd.flagKey")
"""What is known of a kiosk; `targetingKey` is its device id."""
LISTS: Final = ("groups",)

DEEPEST: Final = 32
LONGEST_TEXT: Final = 256
MOST_WEIGHT: Final = 2**31 - 1
"""Of all shares of a `fractional` together; flagd's limit."""

_COMPARISONS: Final = ("==", "!=", "===", "!==", "starts_with", "ends_with")
_VERSION_COMPARISONS: Final = ("=", "!=", "<", "<=", ">", ">=", "^", "~")
_TRUTHS: Final = (*_COMPARISONS, "in", "and", "or", "!", "sem_ver")

Place = tuple[str, ...]
"""Where in a document something stands: its keys and indexes from the outside in."""


def check(rule: object, flag: Flag, place: Place) -> None:
    """Raises Refused (`invalid`), with the place, unless `rule` gives every kiosk a variant of `flag`."""
    if not isinstance(rule, dict):
        refuse(place, f"{_shown(rule)} is no rule; a variant for all is the `defaultVariant`")
    _variant(rule, flag, place)


def _variant(node: object, flag: Flag, place: Place) -> None:
    if node is None:
        return
    if isinstance(node, str):
        if node not in flag.variants:
            refuse(place, f'"{node[:40]}" is no variant of {flag.name}', flag.variants)
        return
    operator, arguments = _operation(node, place, ("if", "fractional"), "a variant")
    place = (*place, operator)
    if operator == "fractional":
        _fractional(arguments, flag, place)
        return
    if len(arguments) < 2:
        refuse(place, "it needs a condition and what follows from it")
    for index, argument in enumerate(arguments):
        condition = index % 2 == 0 and index < len(arguments) - 1
        if condition:
            _truth(argument, (*place, str(index)))
        else:
            _variant(argument, flag, (*place, str(index)))


def _fractional(arguments: list[Any], flag: Flag, place: Place) -> None:
    shares = list(enumerate(arguments))
    if arguments and not isinstance(arguments[0], list):
        _text(arguments[0], (*place, "0"))
        shares = shares[1:]
    total = sum(_share(share, flag, (*place, str(index))) for index, share in shares)
    if not 0 < total <= MOST_WEIGHT:
        refuse(place, f"the shares add up to {total}; they need 1 to {MOST_WEIGHT}")


def _share(share: object, flag: Flag, place: Place) -> int:
    if not isinstance(share, list) or not 1 <= len(share) <= 2 or not isinstance(share[0], str):
        refuse(place, 'write a share as ["variant", weight]')
    _variant(share[0], flag, (*place, "0"))
    weight = share[1] if len(share) == 2 else 1
    if type(weight) is not int or not 0 <= weight <= MOST_WEIGHT:
        refuse((*place, "1"), f"a weight is a whole number from 0 to {MOST_WEIGHT}")
    return weight


def _truth(node: object, place: Place) -> None:
    if isinstance(node, bool):
        return
    operator, arguments = _operation(node, place, _TRUTHS, "true or false")
    place = (*place, operator)
    numbered = [((*place, str(index)), argument) for index, argument in enumerate(arguments)]
    match operator:
        case "and" | "or":
            if not numbered:
                refuse(place, "it needs something to judge")
            for where, argument in numbered:
                _truth(argument, where)
        case "!":
            _count(arguments, 1, place)
            _truth(arguments[0], numbered[0][0])
        case "in":
            _count(arguments, 2, place)
            _text(arguments[0], numbered[0][0])
            _texts(arguments[1], numbered[1][0])
        case "sem_ver":
            _count(arguments, 3, place)
            _versions(arguments, place)
        case _:
            _count(arguments, 2, place)
            for where, argument in numbered:
                _text(argument, where)


def _versions(arguments: list[Any], place: Place) -> None:
    subject, comparison, version = arguments
    if subject not in ({"var": "version"}, {"var": ["version"]}):
        refuse((*place, "0"), 'only {"var": "version"} is a version')
    if comparison not in _VERSION_COMPARISONS:
        refuse((*place, "1"), "that is no comparison of versions", _VERSION_COMPARISONS)
    if not isinstance(version, str) or VERSION.fullmatch(version) is None:
        refuse((*place, "2"), 'write a version as "1.4.0"')


def _text(node: object, place: Place) -> None:
    if isinstance(node, str):
        _literal(node, place)
        return
    operator, arguments = _operation(node, place, ("var", "cat"), "a text")
    place = (*place, operator)
    if operator == "var":
        _variable(arguments, TEXTS, place)
        return
    if not arguments:
        refuse(place, "it needs something to join")
    for index, argument in enumerate(arguments):
        _text(argument, (*place, str(index)))


def _texts(node: object, place: Place) -> None:
    if isinstance(node, list):
        for index, each in enumerate(node):
            if not isinstance(each, str):
                refuse((*place, str(index)), "a list holds texts only")
            _literal(each, (*place, str(index)))
        return
    _, arguments = _operation(node, place, ("var",), 'a list: {"var": "groups"} or ["…", "…"]')
    _variable(arguments, LISTS, (*place, "var"))


def _variable(arguments: list[Any], names: Collection[str], place: Place) -> None:
    _count(arguments, 1, place)
    if arguments[0] in (*TEXTS, *LISTS) and arguments[0] not in names:
        refuse(place, f"{arguments[0]} is {'a list: use `in`' if arguments[0] in LISTS else 'no list'}")
    if arguments[0] not in names:
        refuse(place, f"nothing of that name is known of a kiosk: {_shown(arguments[0])}", names)


def _literal(text: str, place: Place) -> None:
    if len(text) > LONGEST_TEXT or not text.isprintable():
        refuse(place, f"a text has at most {LONGEST_TEXT} printable characters")


def _operation(node: object, place: Place, operators: Collection[str], wanted: str) -> tuple[str, list[Any]]:
    """The one operator of `node` and its arguments."""
    if len(place) > DEEPEST:
        refuse(place[:4], "it is nested too deep")
    if not isinstance(node, dict) or len(node) != 1:
        refuse(place, f"{_shown(node)} isn't {wanted}")
    ((operator, arguments),) = node.items()
    if operator not in operators:
        refuse(place, f"there is no operator {_shown(operator)} that gives {wanted}", operators)
    return operator, arguments if isinstance(arguments, list) else [arguments]


def _count(arguments: list[Any], wanted: int, place: Place) -> None:
    if len(arguments) != wanted:
        refuse(place, f"it takes {wanted}, not {len(arguments)}")


def _shown(node: object) -> str:
    match node:
        case str():
            return ascii(node[:40])
        case None | bool():
            return {None: "null", True: "true", False: "false"}[node]
        case int() | float():
            return "a number"
        case list():
            return "this list"
        case _:
            return "this object"


def refuse(place: Place, cause: str, choices: Iterable[str] = ()) -> NoReturn:
    """Raises Refused (`invalid`) with the place, and with the choices there are."""
    choices = tuple(choices)
    hint = f"; use one of: {', '.join(choices)}" if len(choices) > 1 else "".join(f"; use {each}" for each in choices)
    raise Refused("invalid", f"{'.'.join(place)}: {cause}{hint}")
