"""A subscriber of its own: Debian's mosquitto_sub, so that nothing of the kiosk's own MQTT code has a say."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers import Broker


@dataclass(frozen=True, slots=True)
class Heard:
    """One message."""

    topic: str
    payload: str
    qos: int
    retained: bool
    expiry_s: int | None
    at_s: float
    """Monotonic time."""

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object in it."""
        content: dict[str, Any] = json.loads(self.payload)
        return content


@dataclass
class Listener:
    """Everything heard so far."""

    heard: list[Heard] = field(default_factory=list)

    def on(self, topic: str) -> list[Heard]:
        """Messages on topics that end in `topic`, in order."""
        return [message for message in list(self.heard) if message.topic.endswith(topic)]

    def said(self, topic: str) -> list[str]:
        """Their payloads."""
        return [message.payload for message in self.on(topic)]


@contextmanager
def listening(broker: Broker, topic: str, options: Sequence[str] = ()) -> Iterator[Listener]:
    """Listen to `topic` while the block runs."""
    command = ["mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic]
    command += ["-F", "%j", *options]
    listener = Listener()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        thread = threading.Thread(target=_listen, args=(process, listener))
        thread.start()
        try:
            yield listener
        finally:
            process.terminate()
            thread.join()


def _listen(process: subprocess.Popen[str], listener: Listener) -> None:
    for line in process.stdout or ():
        found = json.loads(line)
        expiry = (found.get("properties") or {}).get("message-expiry-interval")
        listener.heard.append(
            Heard(
                found["topic"],
                found.get("payload") or "",
                found["qos"],
                bool(found["retain"]),
                expiry,
                time.monotonic(),
            )
        )
