"""What the broker tells anybody who asks: a second client, that hears the kiosk as the fleet would."""

from __future__ import annotations

import json
import threading
import time
from collections import deque

from agent.contract.messages import Heard, Topics
from agent.courier.broker import Broker as Line
from agent.demo.kiosk import DEVICE, SITE, News
from agent.demo.servers import Broker
from agent.settings import Mqtt

_CLIENT_ID = "kiosk-recorder-try"
_NEWS_KEPT = 20


class Ear:
    """Hears everything the kiosk says over MQTT, from `listen` until `close`."""

    def __init__(self, broker: Broker) -> None:
        self._topics = Topics(SITE, DEVICE)
        self._lock = threading.Lock()
        self._news: deque[News] = deque(maxlen=_NEWS_KEPT)
        self._presence = "silent so far"
        self._reports = 0
        self._line = Line(Mqtt(url=broker.url), _CLIENT_ID, None, lambda: None)
        self._line.listen(f"{self._topics.base}/#", self._hear)

    def listen(self) -> None:
        """Begin; the broker must be there."""
        self._line.start()

    def close(self) -> None:
        """Stop listening."""
        self._line.stop(None, 0)

    def summary(self) -> str:
        """What is known of the kiosk by MQTT alone, in a few words."""
        with self._lock:
            reports = {0: "", 1: ", 1 telemetry report"}.get(self._reports, f", {self._reports} telemetry reports")
            return self._presence + reports

    def news(self) -> list[News]:
        """What the kiosk announced, oldest first."""
        with self._lock:
            return list(self._news)

    def _hear(self, heard: Heard) -> None:
        """On the connection's own thread."""
        topic, payload = heard.topic, heard.payload
        with self._lock:
            if topic == self._topics.status:
                before, self._presence = self._presence, f"the kiosk is {payload.decode()}"
                if self._presence != before:
                    self._announce(f"broker: {self._presence}")
            elif topic == self._topics.birth:
                version = json.loads(payload)["versions"]["kiosk-recorder"]
                self._announce(f"broker: birth of version {version}")
            elif topic == self._topics.telemetry:
                if not self._reports:
                    self._announce(f"broker: first telemetry, {len(json.loads(payload))} values")
                self._reports = json.loads(payload)["seq"] + 1

    def _announce(self, text: str) -> None:
        self._news.append(News(time.time_ns(), text))
