"""What is wrong with a configuration, in plain words: the libraries' findings told to the person who wrote the file."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final

from agent.config.keys import Place, dotted, kind, known_keys, outer_sections, shown, split, wanted
from agent.errors import Mistake
from agent.units import MisreadError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SYNTAX: Final = (
    (r"Cannot overwrite a value|Cannot redefine .*|Cannot mutate .*", "is written twice", "keep one of the two"),
    (r"Cannot declare .* twice", "this section is there already", "move its keys under the first one"),
    (r"Invalid value", "the value can't be read", "text goes in quotes; it's true and false, not True and False"),
    (
        r"Expected newline .*",
        "something follows the value",
        'sizes, times and text go in quotes: "8GiB"; one key a line',
    ),
    (r"Invalid statement|Expected '=' .*", "isn't a key with its value", "write key = value, or [section]"),
    (
        r"Unterminated string|Illegal character .*",
        "a quote is missing",
        "text begins and ends with a quote on its line",
    ),
)
"""What tomllib says, and what a person is told."""

_REQUIRED: Final = {"site": "north", "id": "room-12"}


def syntax_mistake(message: str, text: str) -> Mistake:
    """What tomllib found in `text`."""
    match = re.fullmatch(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    said, line, column = match.groups() if match else (message, None, None)
    cause, hint = next(
        ((cause, hint) for pattern, cause, hint in _SYNTAX if re.fullmatch(pattern, said, re.DOTALL)),
        (f"isn't TOML: {said[:1].lower()}{said[1:]}", "config.example.toml shows how it's written"),
    )
    last_line = text.rstrip().count("\n") + 1
    return Mistake("", cause, hint, int(line) if line else last_line, int(column) if column else None)


def type_mistake(detail: ErrorDetails, document: dict[str, Any]) -> Mistake:
    """What pydantic found in `document`."""
    place, reason = detail["loc"], detail["type"]
    if reason == "missing":
        return _missing(place)
    if reason == "unexpected_keyword_argument":
        return _unknown(place)
    value: Any = document
    for part in place:
        value = value[part]
    if reason == "dataclass_type":
        return Mistake(
            dotted(place),
            f"is {kind(value)}, not a section",
            f"write [{dotted(place)}] on a line of its own",
        )
    return Mistake(dotted(place), *_refused(place, value, detail))


def meant(place: Place) -> str | None:
    """The key or section (dotted) that an unknown one most resembles; None when nothing does, or it isn't unknown."""
    (section, below), known, outer = split(place), known_keys(), outer_sections()
    if section in outer or (section in known and (not below or below[0] in known[section])):
        return None
    first, _, inner = section.partition(".")
    if first in outer:
        return _meant_within(first, inner, below)
    name = below[-1] if below else section
    here = {key: f"{section}.{key}" for key in known.get(section, ())}
    flat = {each: keys for each, keys in known.items() if "." not in each}
    everywhere = {key: f"{each}.{key}" for each, keys in flat.items() for key in keys}
    sections = {each.rpartition(".")[2]: each for each in known} | {each: each for each in outer}
    if name in everywhere:
        return everywhere[name]
    for candidates, cutoff in ((everywhere | here, 0.9), (here, 0.6), (sections, 0.6), (everywhere, 0.8)):
        if near := difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff):
            return candidates[near[0]]
    return None


def _meant_within(outer: str, inner: str, below: tuple[str, ...]) -> str | None:
    """As `meant`, of a section or key in a section that holds sections."""
    section = f"{outer}.{inner}"
    names, name = (known_keys()[section], below[0]) if section in known_keys() else (outer_sections()[outer], inner)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not near:
        return None
    return f"{section}.{near[0]}" if section in known_keys() else f"{outer}.{near[0]}"


def _refused(place: Place, value: object, detail: ErrorDetails) -> tuple[str, str]:
    """Cause and hint for a value its key doesn't take."""
    section, below = split(place)
    key = f"{section}.{below[0]}"
    misread = detail.get("ctx", {}).get("error")
    if isinstance(misread, MisreadError) and isinstance(value, str | int | float):
        return f"{shown(key, value)} {misread.cause}", misread.hint
    annotation = str if len(below) > 1 else known_keys()[section][below[0]].annotation
    what, hint = wanted(annotation)
    if not isinstance(value, str | int | float):
        return f"is {kind(value)}, not {what}", hint
    if detail["type"] == "literal_error" and isinstance(value, str):
        near = difflib.get_close_matches(value, re.findall(r'"(.*?)"', hint), n=1)
        return f"{shown(key, value)} isn't {what}", f'did you mean "{near[0]}"? Else {hint}' if near else hint
    if detail["type"] in {"greater_than_equal", "less_than_equal"}:
        return f"{shown(key, value)} is out of range", hint
    return f"{shown(key, value)} is {kind(value)}, not {what}", hint


def _missing(place: Place) -> Mistake:
    if len(place) == 1:
        keys = " and ".join(f'{key} = "{value}"' for key, value in _REQUIRED.items())
        return Mistake(dotted(place), "this section is missing", f"add [{place[0]}] with {keys}")
    return Mistake(dotted(place), "is missing", f'add it, such as {place[1]} = "{_REQUIRED[str(place[1])]}"')


def _unknown(place: Place) -> Mistake:
    (section, below), known, outer = split(place), known_keys(), outer_sections()
    first, _, inner = section.partition(".")
    likely = meant(place) or ""
    if first in outer and inner and section not in known:
        what, hint = "unknown section", f"sections of [{first}] are {', '.join(outer[first])}"
        return Mistake(dotted(place), what, f"did you mean [{likely}]?" if likely else hint)
    if not below:
        sections = dict.fromkeys(each.partition(".")[0] for each in known)
        what, hint = "unknown section", f"sections are {', '.join(sections)}"
    else:
        what, hint = "unknown key", f"keys of [{section}] are {', '.join(known[section])}"
    where, _, key = likely.rpartition(".") if likely not in known else ("", "", "")
    if where and key == (below or (section,))[-1]:
        what, hint = what if below else "stands outside its section", f"`{key}` belongs to [{where}]"
    elif where:
        hint = f"did you mean `{key}`?" if where == section else f"did you mean `{key}` of [{where}]?"
    elif likely:
        hint = f"did you mean [{likely}]?"
    return Mistake(dotted(place), what, hint)
