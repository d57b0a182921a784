"""The hardware of a kiosk as `kiosk-recorder status` shows it: what a technician would ask about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

from agent.commands.times import local
from agent.terminal import counted
from agent.units import NS_PER_S, human_bytes
from hw.board import Board, Identity, Sensors, identity, throttled_words
from hw.memory import Memory, Swap, read_memory
from hw.storage import Card, Storage, read_storage

_UNKNOWN: Final = "not available"
_MACHINE: Final = Path("/")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the machine tells of itself; None in it is what nothing tells."""

    identity: Identity
    board: Board
    memory: Memory
    storage: Storage


def look(directory: Path, root: Path = _MACHINE) -> Hardware:
    """The machine, and the card that `directory` lies on, or would if it were there."""
    there = next(each for each in (directory, *directory.parents) if each.exists())
    with Sensors(root) as sensors:
        board = sensors.read()
    return Hardware(identity(root), board, read_memory(root), read_storage(there, root))


def document(hardware: Hardware) -> dict[str, Any]:
    """For programs: the fields of `hw`, null where nothing tells."""
    return asdict(hardware)


def lines(hardware: Hardware, zone: tzinfo) -> Iterator[tuple[str, str]]:
    """For people: names, and what there is to say of each."""
    who, board = hardware.identity, hardware.board
    yield "board", ", serial ".join(part for part in (who.model, who.serial) if part) or _UNKNOWN
    yield "temperature", _UNKNOWN if board.temperature_c is None else f"{board.temperature_c:.1f} °C"
    yield "power", "; ".join(_power(board)) or _UNKNOWN
    yield "card", "; ".join(_storage(hardware.storage, zone)) or _UNKNOWN
    yield "ram", "; ".join(_memory(hardware.memory)) or _UNKNOWN


def _power(board: Board) -> Iterator[str]:
    if board.undervoltage is not None:
        yield "too little voltage: another supply or a shorter cable" if board.undervoltage else "enough voltage"
    if board.throttled is not None:
        now, since_start = throttled_words(board.throttled)
        if now:
            yield f"now {', '.join(now)}"
        yield f"since the start {', '.join(since_start)}" if since_start else "never throttled since the start"


def _storage(storage: Storage, zone: tzinfo) -> Iterator[str]:
    if storage.device is not None:
        yield _card(storage.card) if storage.card else storage.device
    if storage.free_bytes is not None and storage.size_bytes is not None:
        yield f"{human_bytes(storage.free_bytes)} free of {human_bytes(storage.size_bytes)}"
    if storage.read_only:
        yield "read-only"
    if storage.written_bytes is not None:
        yield f"{human_bytes(storage.written_bytes)} written in its life"
    if storage.errors:
        last = storage.last_error_s
        yield counted(storage.errors, "error") + (f", the last {local(last * NS_PER_S, zone)}" if last else "")
    elif storage.errors is not None:
        yield "no errors"


def _card(card: Card) -> str:
    name = " ".join(part for part in (card.kind, card.name, f"of {card.made}" if card.made else None) if part)
    if card.life_used_pct is None:
        return f"{name}, wear {_UNKNOWN}"
    worn = "beyond its life" if card.life_used_pct > 100 else f"at most {card.life_used_pct} % worn"
    return f"{name}, {worn}" + (f", spare blocks: {card.spare}" if card.spare else "")


def _memory(memory: Memory) -> Iterator[str]:
    if memory.available_bytes is not None and memory.total_bytes is not None:
        yield f"{human_bytes(memory.available_bytes)} available of {human_bytes(memory.total_bytes)}"
    if memory.pressure_pct is not None:
        yield f"waited for {memory.pressure_pct:g} % of the last minute"
    if memory.swaps is not None:
        yield ", ".join(map(_swap, memory.swaps)) or "no swap"


def _swap(swap: Swap) -> str:
    used = f"{human_bytes(swap.used_bytes)} of {human_bytes(swap.size_bytes)}"
    return f"swap to {swap.goes_to}: {used} in {swap.path}"
