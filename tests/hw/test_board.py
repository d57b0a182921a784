from __future__ import annotations

import ctypes
import os
import select
import shutil
import struct
from pathlib import Path

import pytest

from hw.board import Alarm, Board, Identity, Sensors, gencmd, identity, throttled_of, throttled_words
from tests.card import Card, card  # noqa: F401 (a fixture)
from tests.hw.trees import TOP
from tests.soundcard import eventually


def read(root: Path) -> Board:
    with Sensors(root) as sensors:
        return sensors.read()


@pytest.mark.parametrize(
    ("tree", "who", "doing"),
    [
        ("pi3", Identity("Raspberry Pi 3 Model B Plus Rev 1.3", "00000000c0ffee03"), Board(47.774, True, None)),
        # Debian's kernel has no driver for the alarm, and QEMU's Pi no firmware that would fill in a serial number.
        ("pi3-debian", Identity("Raspberry Pi 3 Model B", None), Board(25.178, None, None)),
        ("pi4", Identity("Raspberry Pi 4 Model B Rev 1.4", "10000000c0ffee04"), Board(48.199, False, None)),
        ("pi5", Identity("Raspberry Pi 5 Model B Rev 1.0", "c0ffee0500000005"), Board(65.0, False, None)),
        ("cm4", Identity("Raspberry Pi Compute Module 4 Rev 1.1", "10000000c0ffee44"), Board(51.121, False, None)),
        # It has the alarm like all others, but nothing that could raise it.
        ("zero2w", Identity("Raspberry Pi Zero 2 W Rev 1.0", "00000000c0ffee02"), Board(45.622, None, None)),
        ("not-a-pi", Identity(None, None), Board(None, None, None)),
    ],
)
def test_each_pi_is_known_and_what_is_none_tells_nothing(tree: str, who: Identity, doing: Board) -> None:
    assert identity(TOP / tree) == who
    assert read(TOP / tree) == doing


@pytest.mark.parametrize("model", ["Pine64 RockPro64 v2.1", "linux,dummy-virt", "Raspberry Pie", ""])
def test_another_boards_serial_is_nobodys_business(tmp_path: Path, model: str) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(model.encode() + b"\0")
    (tmp_path / "proc/device-tree/serial-number").write_bytes(b"d4b6c0ffee000001\0")
    assert identity(tmp_path) == Identity(None, None)


def test_a_pi_whose_kernel_tells_nothing_else_is_still_known(pi: Path) -> None:
    shutil.rmtree(pi / "sys")
    assert identity(pi).model == "Raspberry Pi 4 Model B Rev 1.4"
    assert read(pi) == Board(None, None, None)


@pytest.mark.parametrize("temperature", ["", "-", "nan", "52.3", "1e3", "٥٠٠٠٠", "999999999", "-274000", "9" * 5000])
def test_a_temperature_that_cannot_be_is_none(pi: Path, temperature: str) -> None:
    (pi / "sys/class/thermal/thermal_zone0/temp").write_text(temperature + "\n")
    assert read(pi).temperature_c is None


def test_a_cold_room_is_no_mistake(pi: Path) -> None:
    (pi / "sys/class/thermal/thermal_zone0/temp").write_text("-3200\n")
    assert read(pi).temperature_c == -3.2


def test_the_processors_zone_is_found_by_its_type_among_others(pi: Path) -> None:
    other = pi / "sys/class/thermal/thermal_zone00"
    other.mkdir()
    (other / "type").write_text("battery\n")
    (other / "temp").write_text("21000\n")
    assert read(pi).temperature_c == 50.0


def test_the_alarm_is_found_whatever_number_it_has(pi: Path) -> None:
    hwmon = pi / "sys/class/hwmon"
    (hwmon / "hwmon1").rename(hwmon / "hwmon9")
    (hwmon / "hwmon9/in0_lcrit_alarm").write_text("1\n")
    assert read(pi).undervoltage is True


@pytest.mark.parametrize("alarm", ["", "2", "yes", "\x00"])
def test_an_alarm_that_says_neither_yes_nor_no_says_nothing(pi: Path, alarm: str) -> None:
    (pi / "sys/class/hwmon/hwmon1/in0_lcrit_alarm").write_text(alarm)
    assert read(pi).undervoltage is None


def test_an_alarm_whose_driver_comes_late_or_again_is_heard(pi: Path) -> None:
    device = pi / "sys/class/hwmon/hwmon1"
    device.rename(pi / "later")
    with Sensors(pi) as sensors:
        assert sensors.read().undervoltage is None
        (pi / "later").rename(device)
        assert sensors.read().undervoltage is False
        (device / "in0_lcrit_alarm").write_text("1\n")
        assert sensors.read().undervoltage is True
        (device / "in0_lcrit_alarm").write_text("0\n")
        assert sensors.read().undervoltage is False


def test_sysfs_tells_a_reader_who_keeps_the_file_that_it_changed(card: Card, pi: Path) -> None:  # noqa: F811
    """The kernel's own word, of a file of another driver that can be changed here: ext4's count of errors."""
    ext4 = Path("/sys/fs/ext4") / os.path.basename(os.path.realpath(_block_of(card.path)))  # noqa: PTH119
    alarm = pi / "sys/class/hwmon/hwmon1/in0_lcrit_alarm"
    alarm.unlink()
    alarm.symlink_to(ext4 / "errors_count")
    watched = Alarm(pi)
    assert watched.read() is False
    assert not watched.changed()
    (ext4 / "trigger_fs_error").write_text("a test")
    eventually(watched.changed, "the change is told")
    assert watched.read() is True
    assert not watched.changed(), "it is told once"
    watched.close()


def test_a_dip_between_two_readings_is_told_once(pi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dips = iter([True, False])

    class Poll:
        """What select.poll tells of a sysfs file that changed (as in the test above), and of one that didn't."""

        def register(self, descriptor: int, events: int) -> None:
            self.told = [(descriptor, events & select.POLLPRI | select.POLLERR)] if next(dips) else []

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            assert timeout_ms == 0
            return self.told

    with Sensors(pi) as sensors:
        assert sensors.read().undervoltage is False
        monkeypatch.setattr(select, "poll", Poll)
        assert sensors.read().undervoltage is True
        assert sensors.read().undervoltage is False


class Firmware:
    """What /dev/vcio's driver and the firmware behind it do with a message; refuses what they refuse."""

    def __init__(self) -> None:
        self.answer = "throttled=0x50005"
        self.status = 0
        self.asked: list[str] = []

    def ioctl(self, descriptor: int, request: ctypes.c_ulong, message: ctypes.Array[ctypes.c_char]) -> int:
        self.asked.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        assert request.value == {8: 0xC0086400, 4: 0xC0046400}[ctypes.sizeof(ctypes.c_char_p)]
        size, process, tag, room, length, error = struct.unpack_from("=6I", message.raw)
        # vcio_check_tags: one tag that is allowed, whole, followed by the end.
        assert size == len(message) == 1052
        assert (process, tag, length, error) == (0, 0x00030080, 0, 0)
        assert 8 + 12 + room <= size
        assert message.raw[24:].rstrip(b"\0") == b"get_throttled"
        struct.pack_into("=6I", message, 0, size, 1 << 31, tag, room, 1 << 31 | 18, self.status)
        struct.pack_into(f"{len(message) - 24}s", message, 24, self.answer.encode())
        return 0


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    """A Pi of 50 °C whose power is good, to be changed."""
    files = {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "50000\n",
        "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
        "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
    }
    root = tmp_path / "pi"
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "dev").mkdir()
    return root


@pytest.fixture
def firmware(monkeypatch: pytest.MonkeyPatch) -> Firmware:
    made = Firmware()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: made)
    return made


def test_the_firmware_is_asked_by_the_device_that_can_do_least(pi: Path, firmware: Firmware) -> None:
    (pi / "dev/vcio").touch()
    assert read(pi).throttled == 0x50005
    (pi / "dev/vcio_gencmd").touch()
    assert read(pi).throttled == 0x50005
    assert firmware.asked == ["vcio", "vcio_gencmd"]


def test_without_its_driver_the_firmware_tells_whether_voltage_is_low_now(pi: Path, firmware: Firmware) -> None:
    (pi / "dev/vcio").touch()
    (pi / "sys/class/hwmon/hwmon1/name").unlink()
    assert read(pi).undervoltage is True
    firmware.answer = "throttled=0x50000"
    assert read(pi) == Board(50.0, False, 0x50000)


@pytest.mark.parametrize(
    "answer", ["", "throttled=", "throttled=0x", "throttled=5", "throttled=0x123456789", "error=1"]
)
def test_an_answer_that_makes_no_sense_is_none(pi: Path, firmware: Firmware, answer: str) -> None:
    (pi / "dev/vcio").touch()
    firmware.answer = answer
    assert read(pi) == Board(50.0, False, None)


def test_a_firmware_that_refuses_tells_nothing(pi: Path, firmware: Firmware) -> None:
    (pi / "dev/vcio").touch()
    firmware.status = 1
    assert read(pi).throttled is None


def test_what_is_no_device_of_the_firmware_tells_nothing(pi: Path) -> None:
    """The real ioctl, on a file and on a character device that know nothing of it."""
    (pi / "dev/vcio_gencmd").touch()
    (pi / "dev/vcio").symlink_to("/dev/null")
    assert read(pi).throttled is None


def test_the_bits_have_their_words() -> None:
    assert throttled_of("throttled=0x0") == 0
    assert throttled_words(0) == ([], [])
    assert throttled_words(0x50005) == (["undervoltage", "throttled"], ["undervoltage", "throttled"])
    assert throttled_words(0xA000A) == (
        ["frequency capped", "soft temperature limit"],
        ["frequency capped", "soft temperature limit"],
    )
    assert gencmd("x").raw[24:26] == b"x\0"


def test_this_machine() -> None:
    """Elsewhere than on a Pi nothing is told."""
    if identity().model is not None:
        pytest.skip("this machine is a Raspberry Pi: the next test is for it")
    assert identity() == Identity(None, None)
    found = read(Path("/"))
    assert (found.undervoltage, found.throttled) == (None, None)
    if not any("cpu-thermal" in zone.read_text() for zone in Path("/sys/class/thermal").glob("*/type")):
        assert found.temperature_c is None


@pytest.mark.skipif(identity().model is None, reason="this machine isn't a Raspberry Pi")
def test_a_real_pi_tells_all_that_it_should() -> None:
    who = identity()
    assert who.model is not None
    assert who.serial is not None
    assert len(who.serial) == 16
    found = read(Path("/"))
    assert found.temperature_c is not None
    assert 0 < found.temperature_c < 100
    assert (found.undervoltage is None) == ("Zero" in who.model)
    if os.access("/dev/vcio", os.R_OK) or os.access("/dev/vcio_gencmd", os.R_OK):
        assert found.throttled is not None


def _block_of(directory: Path) -> str:
    device = directory.stat().st_dev
    return f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
