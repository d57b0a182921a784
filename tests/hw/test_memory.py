from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hw.memory import Memory, Swap, pressure_of, read_memory, resident_bytes, swaps_of
from tests.hw.trees import TOP

KIB = 1024


@pytest.mark.parametrize(
    ("tree", "memory"),
    [
        (
            "pi3",
            Memory(943028 * KIB, 671836 * KIB, None, (Swap("/var/swap", "disk", 524284 * KIB, 1024 * KIB),)),
        ),
        ("pi3-debian", Memory(936104 * KIB, 845728 * KIB, 0.0, (Swap("/dev/zram0", "memory", 65532 * KIB, 0),))),
        ("pi4", Memory(3884372 * KIB, 3312400 * KIB, None, (Swap("/var/swap", "disk", 102396 * KIB, 0),))),
        ("pi5", Memory(8255808 * KIB, 4257904 * KIB, 0.12, (Swap("/dev/zram0", "disk", 2097136 * KIB, 0),))),
        (
            "zero2w",
            Memory(424900 * KIB, 231668 * KIB, None, (Swap("/dev/zram0", "memory", 424892 * KIB, 23680 * KIB),)),
        ),
        ("cm4", Memory(1893696 * KIB, 1503220 * KIB, None, ())),
        ("not-a-pi", Memory(16211884 * KIB, 12312400 * KIB, 0.0, ())),
    ],
)
def test_memory_and_where_it_swaps_to(tree: str, memory: Memory) -> None:
    assert read_memory(TOP / tree) == memory


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path) -> None:
    assert read_memory(tmp_path) == Memory(None, None, None, None)


def test_this_machines_memory_is_what_free_says() -> None:
    memory = read_memory()
    assert memory.total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.available_bytes is not None
    assert 0 < memory.available_bytes < memory.total_bytes
    assert (memory.pressure_pct is not None) == Path("/proc/pressure/memory").exists()


def test_a_line_of_swaps_that_makes_no_sense_is_passed_over() -> None:
    head = "Filename Type Size Used Priority\n"
    assert swaps_of(head) == swaps_of("") == ()
    assert swaps_of(f"{head}/swap file x 0 -2\n/swap file 4 -1 -2\n/swap file 4\n/a file 4 2 -2\n") == (
        Swap("/a", "disk", 4096, 2048),
    )


@pytest.mark.parametrize("text", ["", "some", "full avg60=1.00", "some avg10=0.00 avg60=x", "some avg60=1e300"])
def test_pressure_that_is_not_told_is_none(text: str) -> None:
    assert pressure_of(text) is None


def test_a_process_takes_what_the_kernel_says_elsewhere_too() -> None:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    resident = resident_bytes(os.getpid())
    assert resident is not None
    assert abs(resident - int(found[1]) * KIB) < 8 << 20
    assert resident_bytes(1 << 30) is None
