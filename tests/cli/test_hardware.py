from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from agent.commands.hardware import Hardware, document, lines, look
from hw.board import Board, Identity
from hw.memory import Memory, Swap
from hw.storage import Storage
from tests.cli.kiosk import Kiosk
from tests.hw.trees import SPOOL, TOP, TREES

UNKNOWN = Hardware(
    Identity(None, None),
    Board(None, None, None),
    Memory(None, None, None, None),
    Storage(None, None, None, None, None, None, None, None, None, None),
)
NAMES = ["board", "temperature", "power", "card", "ram"]


def told(hardware: Hardware) -> dict[str, str]:
    return dict(lines(hardware, UTC))


def tree(name: str) -> Hardware:
    """Without how full the machine's own disk is."""
    found = look(SPOOL, TOP / name)
    return replace(found, storage=replace(found.storage, free_bytes=None, size_bytes=None))


def test_what_nothing_tells_is_not_available() -> None:
    assert told(UNKNOWN) == dict.fromkeys(NAMES, "not available")


def test_a_pi_is_told_as_a_technician_would_ask() -> None:
    assert told(tree("pi4")) == {
        "board": "Raspberry Pi 4 Model B Rev 1.4, serial 10000000c0ffee04",
        "temperature": "48.2 °C",
        "power": "enough voltage",
        "card": "SD SN64G of 2024-06, wear not available; 47.3 GiB written in its life; "
        "3 errors, the last 2025-09-04 15:33:20",
        "ram": "3.16 GiB available of 3.7 GiB; swap to disk: 0 B of 100 MiB in /var/swap",
    }


def test_an_emmc_tells_its_wear_and_a_bad_supply_what_to_do() -> None:
    assert told(tree("cm4"))["card"] == (
        "eMMC DG4016 of 2022-01, at most 20 % worn, spare blocks: normal; 19.5 GiB written in its life; no errors"
    )
    assert told(tree("pi3"))["power"] == "too little voltage: another supply or a shorter cable"
    assert told(tree("zero2w"))["power"] == "not available"
    assert "; read-only; " in told(tree("zero2w"))["card"]


@pytest.mark.parametrize(
    ("board", "text"),
    [
        (Board(None, None, 0), "never throttled since the start"),
        (Board(None, False, 0x50000), "enough voltage; since the start undervoltage, throttled"),
        (
            Board(None, False, 0x80008),
            "enough voltage; now soft temperature limit; since the start soft temperature limit",
        ),
    ],
)
def test_what_the_firmware_knows_is_told_in_words(board: Board, text: str) -> None:
    assert told(replace(UNKNOWN, board=board))["power"] == text


def test_a_worn_out_card_is_told_as_such() -> None:
    storage = tree("cm4").storage
    assert storage.card is not None
    worn = replace(storage, card=replace(storage.card, life_used_pct=110, spare="urgent"))
    assert "beyond its life, spare blocks: urgent" in told(replace(UNKNOWN, storage=worn))["card"]


def test_memory_without_swap_and_with_pressure() -> None:
    memory = Memory(2 << 30, 1 << 30, 12.5, ())
    assert told(replace(UNKNOWN, memory=memory))["ram"] == (
        "1 GiB available of 2 GiB; waited for 12.5 % of the last minute; no swap"
    )
    zram = replace(memory, pressure_pct=None, swaps=(Swap("/dev/zram0", "memory", 1 << 30, 1 << 20),))
    assert told(replace(UNKNOWN, memory=zram))["ram"].endswith("; swap to memory: 1 MiB of 1 GiB in /dev/zram0")


@pytest.mark.parametrize("name", TREES)
def test_the_document_is_json_and_has_all_of_it(name: str) -> None:
    found: dict[str, Any] = json.loads(json.dumps(document(look(SPOOL, TOP / name)), allow_nan=False))
    assert list(found) == ["identity", "board", "memory", "storage"]
    assert found["identity"]["model"] == look(SPOOL, TOP / name).identity.model
    assert set(found["board"]) == {"temperature_c", "undervoltage", "throttled"}


def test_a_directory_that_is_not_there_yet_lies_where_it_would_be_made(tmp_path: Path) -> None:
    assert look(tmp_path / "a" / "b").storage.free_bytes is not None


def test_status_shows_the_hardware(kiosk: Kiosk) -> None:
    shown = kiosk.run("status").out
    for name in NAMES:
        assert f"\n  {name:11} " in shown
    hardware = kiosk.run("status", "--json").json()["hardware"]
    assert hardware["storage"]["free_bytes"] > 0
    assert hardware["memory"]["available_bytes"] > 0
    if hardware["identity"]["model"] is None:
        assert f"\n  {'board':11} not available\n" in shown
        assert f"\n  {'power':11} not available\n" in shown
        assert hardware["board"] | {"temperature_c": None} == dict.fromkeys(hardware["board"])
