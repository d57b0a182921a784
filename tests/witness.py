"""Hears everything that is said over a test's broker, and holds it against the contract when the broker ends.

What a kiosk says must be right whoever listens: topic, payload by its schema, QoS, retention. What an admin says to
kiosks may be an attack that a test makes on purpose, so it is judged only where a test asks for it (`admins=True`).

The witness is Debian's mosquitto_sub on a listener of its own, so that neither the kiosk's MQTT code has a say nor what
else a test asks of its broker (passwords, certificates, access lists).
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jsonschema import Draft202012Validator

from agent.contract.messages import FLAGS, ROLLOUT, TELEMETRY_EXPIRES_S, Message
from agent.contract.names import NAME
from agent.contract.schemas import schema
from tests.soundcard import eventually

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_END = "witness/end/"
_PATIENCE_S = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said on some topics, and how."""

    topic: re.Pattern[str]
    schema: str
    qos: int
    retained: bool
    expires_s: int | None = None
    may_be_empty: bool = False
    """To take back what is retained."""
    inside: str = ""
    """The schema of what an envelope holds."""


def _kiosk(below: str) -> re.Pattern[str]:
    return re.compile(rf"kiosk/v1/{NAME.pattern}/{NAME.pattern}/{below}")


KIOSKS = (
    Rule(_kiosk("status"), "status", qos=1, retained=True),
    Rule(_kiosk("birth"), "birth", qos=1, retained=True),
    Rule(_kiosk("telemetry"), "telemetry", qos=0, retained=True, expires_s=TELEMETRY_EXPIRES_S),
    Rule(_kiosk("alert/[a-z][a-z_]*"), "alert", qos=1, retained=True, may_be_empty=True),
    Rule(_kiosk("event"), "event", qos=1, retained=False),
    Rule(_kiosk("cmd/result"), "result", qos=1, retained=False),
    Rule(re.compile(rf"homeassistant/device/{NAME.pattern}/config"), "discovery", qos=1, retained=True),
)
"""What kiosks say."""

ADMINS = (
    Rule(_kiosk("cmd"), "envelope", qos=1, retained=False),
    Rule(re.compile(re.escape(FLAGS)), "envelope", qos=1, retained=True, inside="flags"),
    Rule(re.compile(re.escape(ROLLOUT)), "envelope", qos=1, retained=True, inside="rollout"),
)
"""What an admin's tools say."""

OURS = re.compile(r"kiosk/.*|homeassistant/device/.*")


@dataclass(frozen=True, slots=True)
class Heard:
    """One message, as the broker passed it on."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    expires_s: int | None


def wrong_with(heard: Heard, *, admins: bool = True) -> list[str]:
    """In which ways a message breaks the contract; nothing for one that isn't ours to judge."""
    rule = next((rule for rule in (*KIOSKS, *ADMINS) if rule.topic.fullmatch(heard.topic)), None)
    if rule is None:
        return ["nobody speaks there"] if OURS.fullmatch(heard.topic) else []
    if rule in ADMINS and not admins:
        return []
    wrong = []
    if heard.qos != rule.qos:
        wrong.append(f"QoS {heard.qos}, not {rule.qos}")
    if heard.retained != rule.retained:
        wrong.append("retained" if heard.retained else "not retained")
    if rule.expires_s is not None and not (heard.expires_s and heard.expires_s <= rule.expires_s):
        wrong.append(f"expires after {heard.expires_s} s, not {rule.expires_s}")
    if heard.payload or not rule.may_be_empty:
        wrong += _wrong_inside(rule.schema, heard.payload)
    if rule.inside and not wrong:
        wrong += _wrong_inside(rule.inside, json.loads(heard.payload)["signed"])
    return wrong


def wrong_with_message(message: Message) -> list[str]:
    """The same of a message that didn't go by a broker."""
    return wrong_with(Heard(message.topic, message.payload, message.qos, message.retain, message.expires_s))


@contextlib.contextmanager
def witnessed(port: int, transcript: Path, *, admins: bool = False) -> Iterator[None]:
    """Hear everything said over the broker that lets the witness in at `port`; AssertionError if any of it is wrong."""
    with _listening(port, transcript) as process:
        yield
        _hear_the_end(port, process, transcript)
    with transcript.open("rb") as lines:
        wrong = [f"{heard.topic}: {', '.join(found)}" for heard, found in _judged(lines, admins=admins)]
    assert not wrong, "this was said against the contract:\n  " + "\n  ".join(wrong)


@contextlib.contextmanager
def _listening(port: int, transcript: Path) -> Iterator[subprocess.Popen[bytes]]:
    # By the line: nobody could tell when it listens, if that stayed in a buffer.
    command = [
        "stdbuf",
        "-oL",
        "mosquitto_sub",
        "-V",
        "5",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-d",
        "-q",
        "2",
        "--retain-as-published",
    ]
    for topic in ("kiosk/#", "homeassistant/#", f"{_END}#"):
        command += ["-t", topic]
    with transcript.open("wb") as output:
        process = subprocess.Popen([*command, "-F", ">%t %q %r %E %x"], stdout=output, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: b"Subscribed" in transcript.read_bytes(), f"the witness listens: {transcript}")
        yield process
    finally:
        # It has said all by then; asked to end politely, it may go on waiting for its broker.
        process.kill()
        process.wait()


def _hear_the_end(port: int, process: subprocess.Popen[bytes], transcript: Path) -> None:
    """What was said before this is in the transcript then; a broker that was killed or is stopped says no more."""
    token = f"{_END}{secrets.token_hex(8)}"
    goodbye = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", token, "-m", "end"]
    try:
        said = subprocess.run(goodbye, timeout=_PATIENCE_S, stderr=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return
    if said.returncode == 0 and process.poll() is None:
        eventually(lambda: token.encode() in transcript.read_bytes(), f"the witness hears the end: {transcript}")


def _judged(lines: Iterable[bytes], *, admins: bool) -> Iterator[tuple[Heard, list[str]]]:
    for line in lines:
        # The last one may have been cut off with the witness, where the broker was gone before the end was told.
        if line.startswith(b">") and line.endswith(b"\n"):
            topic, qos, retained, expires_s, payload = line[1:].decode().rstrip("\n").rsplit(" ", 4)
            expires = int(expires_s) if expires_s else None
            heard = Heard(topic, bytes.fromhex(payload), int(qos), retained == "1", expires)
            if found := wrong_with(heard, admins=admins):
                yield heard, found


@cache
def _validator(name: str) -> Validator:
    return Draft202012Validator(schema(name))


def _wrong_inside(name: str, payload: bytes | str) -> list[str]:
    try:
        content = payload.decode() if isinstance(payload, bytes) and name == "status" else json.loads(payload)
    except ValueError:
        return [f"{payload[:80]!r} is no JSON"]
    return [
        f"{'.'.join(map(str, error.path))} {error.message[:200]}" for error in _validator(name).iter_errors(content)
    ]
