"""The line to the MQTT broker. The only importer of paho on a kiosk.

paho's own thread connects, for ever, and calls back; the callbacks only note what happened and wake the reporter.
Nothing is published while there is no connection: paho would keep it in memory and deliver it late, or lose it.
"""

from __future__ import annotations

import contextlib
import logging
import random
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeGuard
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.contract import secret_files
from agent.contract.messages import Heard, Message
from agent.errors import KioskError
from agent.settings import Mqtt

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

_KEEPALIVE_S = 20
"""Twice that is how long a vanished broker goes unnoticed, half as much again how long a vanished kiosk does."""
_LONGEST_RECONNECT_S = (20, 30)
"""Each kiosk takes its own from this range: a fleet that lost its broker together must not come back together."""
Sent = MQTTMessageInfo
"""What becomes of a message on its way: `is_published()` once the broker has it."""


def on_its_way(sent: Sent | None) -> TypeGuard[Sent]:
    """Whether paho has a message; of one that it hasn't, asking it more raises."""
    return sent is not None and sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS


_MOST_UNWELCOME = 256
"""Refusals that nobody asks about are forgotten: message ids come again."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker says to one publication of QoS 1, or to one subscription."""

    to: int | None
    """Number of the publication; None for a subscription."""
    refused: str
    """Why; empty when it is granted."""


class Broker:
    """One connection, looked after from `start` to `stop`."""

    def __init__(self, settings: Mqtt, client_id: str, will: Message | None, wake: Callable[[], None]) -> None:
        """`will` is what the broker says when this kiosk is cut off; `wake` is called when the connection changes.

        Raises KioskError when the address, a certificate or the password can't be used. Connects to nothing yet.
        """
        self._settings = settings
        self._url = settings.url
        self._client_id = client_id
        self._wake = wake
        self._subscriptions: list[str] = []
        self._sessions = 0
        self._welcomed = False
        self._turned_away = False
        self._unwelcome: deque[int] = deque(maxlen=_MOST_UNWELCOME)
        self._hung_up = threading.Event()
        self._known = ""
        self.answers: SimpleQueue[Answer] | None = None
        """Where its answers go, for whoever wants to know each; put one there before `start`."""
        self.refusal: KioskError | None = None
        """Why there is no connection, once that is known."""
        self._host, self._port, encrypted = _address(settings.url)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_pre_connect = self._on_pre_connect
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.reconnect_delay_set(1, random.randint(*_LONGEST_RECONNECT_S))  # noqa: S311 (only to scatter)
        self._tls = _tls(settings) if encrypted else None
        if self._tls is not None:
            self._client.tls_set_context(self._tls)
        self._identify()
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)

    def listen(self, topic: str, heard: Callable[[Heard], None]) -> None:
        """Subscribe to `topic`, at each connection. Call it before `start`; `heard` is called on paho's thread."""
        self._subscriptions.append(topic)
        self._client.message_callback_add(
            topic,
            lambda _client, _data, message: heard(Heard(message.topic, bytes(message.payload), bool(message.retain))),
        )

    def start(self) -> None:
        """Connect, now and whenever the connection is lost."""
        self._client.connect_async(self._host, self._port, _KEEPALIVE_S)
        self._client.loop_start()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and is there."""
        return self._client.is_connected()

    @property
    def alive(self) -> bool:
        """Whether paho's thread runs: without it nothing would ever connect again."""
        name = f"paho-mqtt-client-{self._client_id}"
        return any(thread.name == name for thread in threading.enumerate())

    @property
    def session(self) -> int:
        """The number of the present connection, 0 without one: at a new one we must say who we are."""
        return self._sessions if self._welcomed else 0

    def publish(self, message: Message) -> Sent | None:
        """Hand a message over to the connection; None, and nothing is kept, when there is none."""
        if not self.connected:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if message.expires_s is not None:
            properties.MessageExpiryInterval = message.expires_s
        return self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)

    def refused(self, sent: Sent) -> bool:
        """Of a message that is published: whether the broker answered that it doesn't take it. To be asked once."""
        try:
            self._unwelcome.remove(sent.mid)
        except ValueError:
            return False
        return True

    def stop(self, farewell: Message | None, seconds: float) -> None:
        """Say `farewell` and hang up so that no will is published, waiting up to `seconds` for each of them."""
        info = self.publish(farewell) if farewell is not None else None
        if info is not None and info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            info.wait_for_publish(seconds)
        self._hung_up.clear()
        if self._client.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            # The farewell of the protocol leaves by paho's thread: a process that ended first would leave its will.
            self._hung_up.wait(seconds)

    def _identify(self) -> None:
        """Read what the broker knows us by."""
        settings = self._settings
        if self._tls is not None and settings.certificate is not None:
            with _certificates_told(settings):
                if settings.key is not None:
                    secret_files.refuse_shared(settings.key, "load certificates", retryable=True)
                self._tls.load_cert_chain(settings.certificate, settings.key)
        if settings.username:
            self._client.username_pw_set(settings.username, _password(settings))

    def _on_pre_connect(self, _client: Client, _data: object) -> None:
        # Each time anew, because a person may have corrected it; what can't be read now is tried as it was.
        with contextlib.suppress(KioskError):
            self._identify()

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._turned_away = True
            self._lost(f"it refuses us: {reason}", "look at `[mqtt]` and at what the broker lets this device do")
            return
        self.refusal = None
        for topic in self._subscriptions:
            self._client.subscribe(topic, qos=1)
        self._sessions += 1
        self._welcomed = True
        self._tell("connected", logging.INFO, f"connected to {self._url}")
        self._wake()

    def _on_connect_fail(self, _client: Client, _data: object) -> None:
        # paho calls this while it handles the error, and tells it nobody else.
        error = sys.exc_info()[1]
        plain = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
        self._lost(plain or str(error or "no answer"), "is the broker up, and `mqtt.url` right?")

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._welcomed = False
        self._hung_up.set()
        # Whoever turns us away hangs up, too, and paho takes that for an error of its own.
        turned_away, self._turned_away = self._turned_away, False
        if reason.is_failure and not turned_away:
            self._lost(f"the connection was lost: {reason}", "it is tried again")

    def _on_publish(
        self, _client: Client, _data: object, number: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        # paho calls a refused message published, too; this comes before it does.
        if reason.is_failure:
            self._unwelcome.append(number)
        if self.answers is not None:
            self.answers.put(Answer(number, str(reason) if reason.is_failure else ""))

    def _on_subscribe(
        self, _client: Client, _data: object, _number: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if self.answers is not None:
            for reason in reasons:
                self.answers.put(Answer(None, str(reason) if reason.is_failure else ""))

    def _lost(self, cause: str, hint: str) -> None:
        self.refusal = KioskError("connect to broker", place=self._url, cause=cause, hint=hint, retryable=True)
        self._tell(cause, logging.WARNING, f"recording and uploads go on without a broker: {self.refusal}")
        self._wake()

    def _tell(self, what: str, level: int, text: str) -> None:
        log.log(level if what != self._known else logging.DEBUG, "%s", text)
        self._known = what


def _address(url: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("it needs a scheme and a host")
        return parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme == "mqtts"
    except ValueError as error:
        raise KioskError(
            "connect to broker",
            place=url,
            cause=str(error),
            hint='write `mqtt.url` as "mqtts://broker:8883" or "mqtt://127.0.0.1:1883"',
        ) from error


def _tls(settings: Mqtt) -> ssl.SSLContext:
    with _certificates_told(settings):
        return ssl.create_default_context(cafile=settings.ca)


@contextlib.contextmanager
def _certificates_told(settings: Mqtt) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (settings.ca, settings.certificate, settings.key) if path)
        raise KioskError(
            "load certificates",
            place=files,
            cause=str(error),
            hint="correct `mqtt.ca`, `mqtt.certificate`, `mqtt.key`; the courier's user must be able to read them",
            retryable=True,
        ) from error


def _password(settings: Mqtt) -> str | None:
    if settings.password_file is None:
        return None
    hint = "correct `mqtt.password_file`; the courier's user must be able to read it"
    return secret_files.password(settings.password_file, "read password", hint=hint, retryable=True)
