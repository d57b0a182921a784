"""What the kernel says a process cost: time on the CPU, memory, bytes made dirty, wake-ups.

CPU time of a running process is read from its own CPU clock (clock_getcpuclockid(3)), to the nanosecond: at three
seconds of CPU an hour, the 10 ms steps of /proc/PID/stat would be several percent of a short run. Where a process has
ended, wait4(2) has the last word.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_BLOCK_BYTES = 512
"""Unit of ru_oublock and of /sys/block/*/stat."""

STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals of one or several processes since they began. Memory is in bytes, CPU in seconds."""

    cpu_s: float
    user_s: float
    """utime of /proc/PID/stat, in steps of 10 ms."""
    system_s: float
    written_bytes: int
    """`write_bytes` of /proc/PID/io: pages made dirty for a block device; the file system's journal isn't in it."""
    wakeups: int
    """Voluntary context switches of all threads."""
    resident_bytes: int
    anonymous_bytes: int
    peak_bytes: int
    """VmHWM. Not ru_maxrss, which begins with what the starting process had."""

    @classmethod
    def of(cls, pid: int) -> Reading:
        """What `pid` has cost so far."""
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        status = _pairs(f"/proc/{pid}/status")
        return cls(
            cpu_s=time.clock_gettime_ns(_cpu_clock(pid)) / 1e9,
            user_s=int(stat[11]) * tick_s,
            system_s=int(stat[12]) * tick_s,
            written_bytes=int(_pairs(f"/proc/{pid}/io")["write_bytes"]),
            wakeups=sum(_switches(task) for task in Path(f"/proc/{pid}/task").iterdir()),
            resident_bytes=_kib(status, "VmRSS"),
            anonymous_bytes=_kib(status, "RssAnon"),
            peak_bytes=_kib(status, "VmHWM"),
        )

    @classmethod
    def sum(cls, readings: Iterable[Reading]) -> Reading:
        """Several processes as one."""
        rows = [asdict(reading) for reading in readings]
        return cls(**{name: sum(row[name] for row in rows) for name in rows[0]})


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process had cost when it had ended, children it waited for included."""

    status: int
    """Exit status, or minus the signal."""
    cpu_s: float
    written_bytes: int
    last_words: str = ""
    """The end of what it wrote to standard error."""


class Running:
    """One contender: one process, or several joined by pipes."""

    def __init__(self, *commands: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
        """Start `commands`, each reading what the one before writes. `environment` is added to our own."""
        self._processes: list[subprocess.Popen[bytes]] = []
        # A file, not a pipe: nobody reads while they run, and a full pipe would hold them up.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the processes)
        # What this machine tells AWS clients isn't meant for servers of our own.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        before: subprocess.Popen[bytes] | None = None
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            process = subprocess.Popen(
                command,
                stdin=before.stdout if before else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                stderr=self._said,
                env={**inherited, **environment},
                pass_fds=pass_fds,
            )
            if before is not None and before.stdout is not None:
                before.stdout.close()
            self._processes.append(process)
            before = process

    @property
    def pids(self) -> list[int]:
        """In the order of the pipe."""
        return [process.pid for process in self._processes]

    def read(self) -> Reading:
        """What it has cost so far. Raises RuntimeError when a part of it has ended."""
        for process in self._processes:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                raise RuntimeError(f"{process.args!r} ended early: {self._last_words()}")
        return Reading.sum(Reading.of(pid) for pid in self.pids)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Tell the first process to end, which ends the others by the end of its output."""
        self._processes[0].send_signal(number)
        return self.wait(STOP_S)

    def wait(self, timeout_s: float) -> Ended:
        """Wait until all have ended by themselves. Raises TimeoutError; then they are killed."""
        deadline = time.monotonic() + timeout_s
        usages = [_wait(process, deadline) for process in self._processes]
        ended = Ended(
            next((process.returncode for process in self._processes if process.returncode), 0),
            sum(usage.ru_utime + usage.ru_stime for usage in usages),
            sum(usage.ru_oublock for usage in usages) * _BLOCK_BYTES,
            self._last_words(),
        )
        self._said.close()
        return ended

    def kill(self) -> None:
        """End what still runs, for whoever gives up in the middle."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                process.wait()

    def _last_words(self) -> str:
        return os.pread(self._said.fileno(), 1 << 20, 0).decode(errors="replace")[-2000:]


def _wait(process: subprocess.Popen[bytes], deadline: float) -> resource.struct_rusage:
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise TimeoutError(f"{process.args!r} did not end")
        time.sleep(0.01)


def _cpu_clock(pid: int) -> int:
    """The clock id of clock_getcpuclockid(3): the process's scheduler clock, all threads, dead ones too."""
    return (~pid << 3) | 2


def _switches(task: Path) -> int:
    try:
        return int(_pairs(task / "status")["voluntary_ctxt_switches"])
    except OSError:  # the thread has just ended
        return 0


def _pairs(path: str | Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in Path(path).read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _kib(status: Mapping[str, str], name: str) -> int:
    return int(status[name].removesuffix(" kB")) * 1024
