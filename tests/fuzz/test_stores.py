"""A store in a stranger's hands: whatever lies in it, `kiosk-fleet` reads it to the end.

No recording that was changed is taken for whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.contract import seeds
from agent.contract.custody import link
from agent.contract.signed import Kind, public_key, signature
from fleet.cli import app
from tests.fleet.room import DEVICE, SITE, Room
from tests.fuzz.damage import Damage, damaged, damages
from tests.fuzz.targets import ROOT
from tests.fuzz.test_age_files import HARMFUL

few = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    """A few hours, half of them encrypted, with an order to erase."""
    with tempfile.TemporaryDirectory(dir=ROOT) as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", lambda _: None)
        room = Room(Path(place), length_s=1800)
        room.live(2)
        room.suffix = ".flac.age"
        room.live(2)
        segment = room.record()
        room.upload(segment)
        room.erase(segment)
        room.sign()
        yield room


def objects(store: Path) -> list[Path]:
    return sorted(path for path in (store / SITE / DEVICE).rglob("*") if path.is_file())


def read_to_the_end(store: Path, room: Room) -> dict[str, list[str]]:
    """What both commands that read a store say: what is wrong where, by what it is."""
    enrolled = ["--enrolment", str(room.enrolment), "--json"]
    for command in (["verify", str(store), *enrolled, "--read"], ["erase-apply", str(store), *enrolled, "--dry-run"]):
        answer = CliRunner().invoke(app, command)
        assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.output
        assert answer.exit_code in (0, 1), answer.output
        if command[0] == "verify":
            (told,) = json.loads(answer.stdout)
    wrong: dict[str, list[str]] = {}
    for finding in told["findings"]:
        wrong.setdefault(finding["kind"], []).append(finding["place"])
    return wrong


@few
@given(pick=st.integers(0, 63), changes=damages())
def test_an_object_that_was_changed_is_never_called_whole(room: Room, pick: int, changes: list[Damage]) -> None:
    with tempfile.TemporaryDirectory(dir=ROOT) as place:
        store = Path(shutil.copytree(room.store, Path(place) / "store"))
        chosen = objects(store)[pick % len(objects(store))]
        before, after = chosen.read_bytes(), damaged(chosen.read_bytes(), changes)
        chosen.write_bytes(after)
        wrong = read_to_the_end(store, room)
        if ".flac" in chosen.name and chosen.suffix != ".json" and after != before:
            # What was to be erased is named for being there at all.
            assert str(chosen.relative_to(store)) in wrong.get("altered", []) + wrong["erased"]


@pytest.mark.parametrize("what", HARMFUL)
def test_what_is_made_to_harm_who_opens_it_harms_nobody_who_verifies_it(room: Room, what: str) -> None:
    with tempfile.TemporaryDirectory(dir=ROOT) as place:
        store = Path(shutil.copytree(room.store, Path(place) / "store"))
        for path in objects(store):
            if path.name.endswith((".flac.age", ".json")):
                path.write_bytes(HARMFUL[what])
        assert read_to_the_end(store, room)


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("9" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def replaced(document: Any, way: list[int], value: Any) -> Any:  # noqa: ANN401
    """The same with one value deep within, at the end of a way of choices, replaced."""
    if not way or not isinstance(document, dict | list) or not document:
        return value
    step, *rest = way
    places = sorted(document) if isinstance(document, dict) else range(len(document))
    place = places[step % len(places)]
    changed = document.copy()
    changed[place] = replaced(document[place], rest, value)
    return changed


def relinked(manifest: dict[str, Any]) -> dict[str, Any]:
    """The same with the hashes that its entries have now."""
    digest = bytes.fromhex(manifest["before"])
    for entry in manifest["entries"]:
        digest = link(digest, entry)
    return manifest | {"after": digest.hex()}


_BODY = 6
"""Where in an entry that is what it tells."""

Ways = st.lists(st.integers(0, 20), min_size=1, max_size=3)


def signed_anew(room: Room, store: Path, path: Path, document: Any) -> None:  # noqa: ANN401
    kind: Kind = "tombstone" if path.name.startswith("erase-") else "manifest"
    seed, text = seeds.load(room.key, ""), json.dumps(document)
    envelope = {"signed": text, "key": public_key(seed), "signature": signature(kind, text, seed)}
    path.write_text(json.dumps(envelope))
    read_to_the_end(store, room)


@settings(few, max_examples=100)
@given(pick=st.integers(0, 63), way=Ways, value=Json, within=st.booleans())
def test_whatever_the_kiosk_itself_signs_is_read_to_the_end(
    room: Room, pick: int, way: list[int], value: object, *, within: bool
) -> None:
    """A courier that was taken holds the key, and can make entries that follow from each other."""
    with tempfile.TemporaryDirectory(dir=ROOT) as place:
        store = Path(shutil.copytree(room.store, Path(place) / "store"))
        papers = [path for path in objects(store) if "custody" in path.parts and not path.name.endswith(".json.json")]
        chosen = papers[pick % len(papers)]
        document = json.loads(json.loads(chosen.read_bytes())["signed"])
        if within and "entries" in document:
            entries = replaced(document["entries"], [pick, _BODY, *way], value)
            signed_anew(room, store, chosen, relinked(document | {"entries": entries}))
        else:
            signed_anew(room, store, chosen, replaced(document, way, value))
