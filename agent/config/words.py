"""What is wrong with a configuration, in plain words: the libraries' findings told to the person who wrote the file."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final

from agent.config.keys import Place, dotted, kind, known_keys, shown, wanted
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
        return Mistake(dotted(place), f"is {kind(value)}, not a section", f"write [{place[0]}] on a line of its own")
    return Mistake(dotted(place), *_refused(place, value, detail))


def meant(place: Place) -> str | None:
    """The key or section (dotted) that an unknown one most resembles; None when nothing does, or it isn't unknown."""
    known, names = known_keys(), [str(part) for part in place]
    if names[0] in known and (len(names) == 1 or names[1] in known[names[0]]):
        return None
    name = names[-1]
    here = {key: f"{names[0]}.{key}" for key in known.get(names[0], ())}
    everywhere = {key: f"{section}.{key}" for section, keys in known.items() for key in keys}
    if name in everywhere:
        return everywhere[name]
    for candidates, cutoff in (
        (everywhere | here, 0.9),
        (here, 0.6),
        ({section: section for section in known}, 0.6),
        (everywhere, 0.8),
    ):
        if near := difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff):
            return candidates[near[0]]
    return None


def _refused(place: Place, value: object, detail: ErrorDetails) -> tuple[str, str]:
    """Cause and hint for a value its key doesn't take."""
    key = dotted(place[:2])
    misread = detail.get("ctx", {}).get("error")
    if isinstance(misread, MisreadError) and isinstance(value, str | int | float):
        return f"{shown(key, value)} {misread.cause}", misread.hint
    annotation = str if len(place) > 2 else known_keys()[str(place[0])][str(place[1])].annotation
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
    known, names = known_keys(), [str(part) for part in place]
    if len(names) == 1:
        what, hint = "unknown section", f"sections are {', '.join(known)}"
    else:
        what, hint = "unknown key", f"keys of [{names[0]}] are {', '.join(known[names[0]])}"
    section, _, key = (meant(place) or "").partition(".")
    if key == names[-1]:
        what, hint = what if len(names) == 2 else "stands outside its section", f"`{key}` belongs to [{section}]"
    elif key:
        hint = f"did you mean `{key}`?" if section == names[0] else f"did you mean `{key}` of [{section}]?"
    elif section:
        hint = f"did you mean [{section}]?"
    return Mistake(dotted(place), what, hint)
