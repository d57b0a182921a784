"""How fast the courier empties a spool into a real S3 server on loopback, beside `rclone copy` of the same files.

Courier and rclone take turns, each into a bucket of its own, and every other pair begins with the other one. Time and
CPU are those of the whole process, from exec to exit: the courier's includes loading boto3, making and entering keys,
verified checksums and the acknowledgements in the ledger; rclone's its listing and its own checks.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.ledger import Ledger, Segment
from agent.spool import Layout
from bench.accounting import Ended, Reading, Running
from bench.contenders import RAM, Sound, settings_for, start_module
from bench.machine import Bustle
from bench.spools import enter, fill, minutes_of_audio
from hw.clock import SystemClock
from tests.servers import Bucket, S3Store, seaweedfs

_TRANSFERS = 4
_DEADLINE_S = 600.0
_SAMPLE_S = 0.1


def measure(count: int, pairs: int, scratch: Path) -> dict[str, Any]:
    """Drain `count` recordings `pairs` times with each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drain-", dir=scratch)))
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiosk-bench-", dir=RAM)))
        layout = Layout(folder / "kiosk")
        segments = fill(layout, minutes_of_audio(count))
        store = stack.enter_context(seaweedfs(ram))
        bustle = Bustle()
        rows: list[dict[str, Any]] = []
        for pair in range(-1, pairs):
            takers = (_courier, _rclone) if pair % 2 == 0 else (_rclone, _courier)
            for taker in takers:
                enter(layout, segments)
                bucket = store.bucket()
                row = taker(layout, segments, store, bucket)
                _check(bucket, segments)
                _empty(bucket)
                # The first pair only warms caches and the server's volumes.
                if pair >= 0:
                    rows.append({"pair": pair, **row})
                time.sleep(1)
        return {
            "objects": count,
            "bytes": sum(segment.bytes for segment in segments),
            "pairs": pairs,
            "transfers": _TRANSFERS,
            "machine_busy_pct": bustle.busy_pct(),
            "rows": rows,
            **_summary(rows),
        }


def _courier(layout: Layout, segments: list[Segment], store: S3Store, bucket: Bucket) -> dict[str, Any]:
    target = f"s3://{bucket.name}"
    settings = settings_for(Sound(16000, 1), "default", layout.root, target=target, endpoint_url=store.url)
    began = time.monotonic()
    running = start_module("agent.courier", settings, store.kiosk.environment, "--once")
    row = _row("courier", running, began, segments)
    with Ledger(layout.ledger, SystemClock(), read_only=True) as ledger:
        acknowledged = sum(segment.state == "acknowledged" for segment in ledger.segments())
    assert acknowledged == len(segments), f"{acknowledged} of {len(segments)} acknowledged"
    return row


def _rclone(layout: Layout, segments: list[Segment], store: S3Store, bucket: Bucket) -> dict[str, Any]:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": store.url,
        "ACCESS_KEY_ID": store.admin.access,
        "SECRET_ACCESS_KEY": store.admin.secret,
        "REGION": "us-east-1",
        "FORCE_PATH_STYLE": "true",
        "NO_CHECK_BUCKET": "true",
    }
    environment = {f"RCLONE_CONFIG_STORE_{key}": value for key, value in remote.items()}
    environment["RCLONE_CONFIG"] = "/dev/null"
    copy = ["copy", str(layout.sealed), f"store:{bucket.name}", "--transfers", str(_TRANSFERS), "--include", "*.flac"]
    began = time.monotonic()
    return _row("rclone", Running(["rclone", *copy], environment=environment), began, segments)


def _row(who: str, running: Running, began: float, segments: list[Segment]) -> dict[str, Any]:
    readings: list[Reading] = []
    done = threading.Event()

    def sample() -> None:
        # A process that is ending has no memory left to read.
        with contextlib.suppress(RuntimeError, OSError, KeyError):
            while not done.wait(_SAMPLE_S):
                readings.append(running.read())

    sampler = threading.Thread(target=sample)
    sampler.start()
    ended: Ended = running.wait(_DEADLINE_S)
    seconds = time.monotonic() - began
    done.set()
    sampler.join()
    assert ended.status == 0, f"{who} ended with {ended.status}: {ended.last_words}"
    return {
        "contender": who,
        "seconds": round(seconds, 3),
        "mb_per_s": round(sum(segment.bytes for segment in segments) / seconds / 1e6, 2),
        "cpu_s": round(ended.cpu_s, 3),
        "peak_mib": round(max(reading.peak_bytes for reading in readings) / 2**20, 1),
        "anonymous_mib": round(max(reading.anonymous_bytes for reading in readings) / 2**20, 1),
    }


def _check(bucket: Bucket, segments: list[Segment]) -> None:
    stored = len(bucket.keys())
    assert stored == len(segments), f"{stored} of {len(segments)} objects arrived"


def _empty(bucket: Bucket) -> None:
    with contextlib.closing(bucket.store.client()) as client:
        stored = bucket.keys()
        for key in stored:
            client.delete_object(Bucket=bucket.name, Key=key)
        client.delete_bucket(Bucket=bucket.name)


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    by = {who: [row for row in rows if row["contender"] == who] for who in ("courier", "rclone")}
    pairs = list(zip(by["courier"], by["rclone"], strict=True))
    return {
        "medians": {
            who: {key: statistics.median(row[key] for row in own) for key in own[0] if key not in ("contender", "pair")}
            for who, own in by.items()
        },
        "throughput_ratio": round(statistics.median(c["mb_per_s"] / r["mb_per_s"] for c, r in pairs), 3),
        "throughput_ratios": [round(c["mb_per_s"] / r["mb_per_s"], 3) for c, r in pairs],
        "cpu_ratio": round(statistics.median(c["cpu_s"] / r["cpu_s"] for c, r in pairs), 3),
    }
