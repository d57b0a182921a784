"""Ways in which bytes go bad: on a card, in a power cut, in a stranger's hands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

Kind = Literal["flip", "cut", "zero", "overwrite", "insert", "repeat", "remove"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One change, at a place told as a fraction of the length."""

    kind: Kind
    at: float
    length: int
    data: bytes

    def done_to(self, content: bytes) -> bytes:
        """The content afterwards."""
        at = int(self.at * len(content))
        before, hit, after = content[:at], content[at : at + self.length], content[at + self.length :]
        now = {
            "flip": bytes(byte ^ (self.data[0] or 1) for byte in hit[:1]) + hit[1:] + after,
            "cut": b"",
            "zero": bytes(len(hit)) + after,
            "overwrite": self.data + content[at + len(self.data) :],
            "insert": self.data + hit + after,
            "repeat": hit + hit + after,
            "remove": after,
        }
        return before + now[self.kind]


def damages(most: int = 3) -> st.SearchStrategy[list[Damage]]:
    """A few changes, one after the other."""
    kinds = st.sampled_from(["flip", "cut", "zero", "overwrite", "insert", "repeat", "remove"])
    one = st.builds(Damage, kinds, st.floats(0, 1), st.integers(1, 600), st.binary(min_size=1, max_size=64))
    return st.lists(one, min_size=1, max_size=most)


def damaged(content: bytes, changes: list[Damage]) -> bytes:
    """The content after all of them."""
    for change in changes:
        content = change.done_to(content)
    return content
