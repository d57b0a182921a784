"""The fleet's line to the broker. The only importer of paho in `fleet/`.

An admin's commands are short: connect, hear what is retained, say something, hear the answers, hang up.
"""

from __future__ import annotations

import queue
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.contract import secret_files
from agent.contract.messages import Heard, Message
from agent.errors import KioskError

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_PATIENCE_S: Final = 10.0
_KEEPALIVE_S: Final = 30
_CONNECT: Final = "connect to broker"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the fleet's broker is, and as whom to connect."""

    url: str
    """"mqtts://broker:8884" or "mqtt://127.0.0.1:1883"."""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str = ""
    password_file: Path | None = None


class Line:
    """One connection: `with Line(address) as line`. Raises KioskError when there is none, or it is lost."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._settled = threading.Event()
        self._subscribed: dict[int, threading.Event] = {}
        self._answers: dict[int, list[ReasonCode]] = {}
        self._denied: dict[int, ReasonCode] = {}
        self._refusal = ""
        self._lost = ""
        self._client = Client(
            CallbackAPIVersion.VERSION2, f"kiosk-fleet-{secrets.token_hex(6)}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish

    def __enter__(self) -> Self:
        parts = urlsplit(self._address.url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise self._error("it needs a scheme and a host", 'write "mqtts://broker:8884" or "mqtt://127.0.0.1:1883"')
        try:
            self._identify(encrypted=parts.scheme == "mqtts")
            self._client.connect(parts.hostname, parts.port or _PORTS[parts.scheme], _KEEPALIVE_S)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise self._error(_cause(error), "is the broker up, and are address and certificates right?") from error
        self._client.loop_start()
        if not self._settled.wait(_PATIENCE_S) or self._refusal:
            self._client.loop_stop()
            raise self._error(self._refusal or f"no answer in {_PATIENCE_S:.0f} s", "look at how this broker knows you")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, message: Message) -> None:
        """Say `message`; returns when the broker has it. Raises KioskError when it doesn't take it."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if message.expires_s is not None:
            properties.MessageExpiryInterval = message.expires_s
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._error(self._lost or str(info.rc), "try again")
        info.wait_for_publish(_PATIENCE_S)
        if not info.is_published():
            raise self._error(self._lost or f"{message.topic} was not taken in {_PATIENCE_S:.0f} s", "try again")
        if info.mid in self._denied:
            raise self._error(
                f"it doesn't take {message.topic}: {self._denied[info.mid]}", "look at the broker's access list"
            )

    def listen(self, *topics: str, qos: int = 1) -> None:
        """Subscribe; returns when the broker has agreed. Raises KioskError when it doesn't let us."""
        options = SubscribeOptions(qos=qos)
        code, number = self._client.subscribe([(topic, options) for topic in topics])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or number is None:
            raise self._error(self._lost or str(code), "try again")
        if not self._subscribed.setdefault(number, threading.Event()).wait(_PATIENCE_S):
            raise self._error(f"no answer to a subscription in {_PATIENCE_S:.0f} s", "try again")
        refused = [topic for topic, answer in zip(topics, self._answers[number], strict=False) if answer.is_failure]
        if refused:
            raise self._error(f"it doesn't let us hear {', '.join(refused)}", "look at the broker's access list")

    def hear(self, seconds: float) -> Iterator[Heard]:
        """What comes within `seconds`. Raises KioskError when the connection is lost."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                yield self._heard.get(timeout=min(left_s, 0.5))
            except queue.Empty:
                if self._lost:
                    raise self._error(self._lost, "try again") from None

    def retained(self, *topics: str, settle_s: float = 0.5, qos: int = 1) -> dict[str, bytes]:
        """What the broker keeps on `topics`, by topic, and what it was replaced by meanwhile.

        The broker sends it right after it has agreed to the subscription; that is over when nothing new came for
        `settle_s`, or when it has sent something for each of `topics`. Of more than a few hundred messages at QoS 1,
        or a few megabytes at QoS 0, it may drop some without a word.
        """
        while not self._heard.empty():
            self._heard.get()
        self.listen(*topics, qos=qos)
        found: dict[str, bytes] = {}
        kept: set[str] = set()
        quiet_at_s = time.monotonic() + settle_s
        while (left_s := quiet_at_s - time.monotonic()) > 0 and kept != set(topics):
            heard = next(self.hear(left_s), None)
            if heard is None:
                break
            if heard.topic not in found:
                quiet_at_s = time.monotonic() + settle_s
            found[heard.topic] = heard.payload
            if heard.retained:
                kept.add(heard.topic)
        return {topic: payload for topic, payload in found.items() if payload}

    def gather(self, topics: Sequence[str], last: str) -> dict[str, bytes]:
        """What the broker keeps on a few `topics`, and on `last`, which is known to have something.

        The broker goes through a subscription in order: when it comes to `last`, it has sent all the rest. Raises
        KioskError when it doesn't come there.
        """
        self.listen(*topics, last, qos=0)
        found: dict[str, bytes] = {}
        for heard in self.hear(_PATIENCE_S):
            found[heard.topic] = heard.payload
            if heard.retained and heard.topic == last:
                return {topic: payload for topic, payload in found.items() if payload}
        raise self._error(f"{last} was there and didn't come in {_PATIENCE_S:.0f} s", "try again")

    def wait_for(self, seconds: float, wanted: Callable[[Heard], bool]) -> Heard | None:
        """The first message within `seconds` that is `wanted`."""
        return next((heard for heard in self.hear(seconds) if wanted(heard)), None)

    def _identify(self, *, encrypted: bool) -> None:
        address = self._address
        for named in (address.ca, address.certificate, address.key, address.password_file):
            if named is not None:
                # OpenSSL doesn't say which of its files is missing.
                named.open("rb").close()
        if encrypted:
            context = ssl.create_default_context(cafile=address.ca)
            if address.certificate is not None:
                if address.key is not None:
                    secret_files.refuse_shared(address.key, _CONNECT)
                context.load_cert_chain(address.certificate, address.key)
            self._client.tls_set_context(context)
        if address.username:
            file = address.password_file
            self._client.username_pw_set(address.username, secret_files.password(file, _CONNECT) if file else None)

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._refusal = f"it refuses us: {reason}" if reason.is_failure else ""
        self._settled.set()

    def _on_disconnect(self, *_: object) -> None:
        self._lost = "the connection was lost"

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._heard.put(Heard(message.topic, bytes(message.payload), bool(message.retain)))

    def _on_subscribe(
        self, _client: Client, _data: object, number: int, answers: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._answers[number] = answers
        self._subscribed.setdefault(number, threading.Event()).set()

    def _on_publish(
        self, _client: Client, _data: object, number: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        if reason.is_failure:
            self._denied[number] = reason

    def _error(self, cause: str, hint: str) -> KioskError:
        return KioskError("talk to broker", place=self._address.url, cause=cause, hint=hint, retryable=True)


def _cause(error: Exception) -> str:
    """What the system says, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
