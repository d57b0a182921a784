"""The two documents that the fleet is told by, as a broker keeps them: read with distrust, replaced with care.

MQTT has no compare-and-set, but everybody hears the messages on a topic in one order. So whoever publishes listens, and
hears afterwards whether a colleague's document came between what was read and the own one. Then the first wins: it is
put back. Kiosks judge the same way, for they refuse a second document of the same version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from agent.contract import evaluation, rollout
from agent.contract.messages import FLAGS, ROLLOUT, Message
from agent.contract.rollout import Rollout
from agent.contract.signed import LONGEST_BYTES, Refused, opened, sign
from agent.errors import KioskError
from fleet.broker import Line
from fleet.keyring import Key
from fleet.sightings import Sightings

Kind = Literal["flags", "rollout"]

TOPICS: Final[Mapping[Kind, str]] = {"flags": FLAGS, "rollout": ROLLOUT}
_CALLED: Final[Mapping[Kind, str]] = {"flags": "flag document", "rollout": "roll-out document"}
_PATIENCE_S: Final = 10.0

_REPLACED: Final[Mapping[Kind, str]] = {
    "flags": "`kiosk-fleet flags set … --force`",
    "rollout": "`kiosk-fleet rollout start … --force`",
}
"""What publishes a document in the place of one that can't be believed."""
_WAYS_OUT: Final = {
    "wrong_key": "if a colleague signed it: kiosk-fleet keys trust NAME ed25519:…; else {} replaces it",
    "older_version": "the broker has lost its memory, or somebody gave it an old one; {} publishes one above all",
}
_OTHERWISE: Final = "somebody who may write there isn't one of you; {} replaces it"


class Overtaken(KioskError):
    """A colleague published between our reading and our writing, and theirs counts."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One document, found good."""

    document: dict[str, Any]
    version: int
    signer: str
    """The name of the key, as this machine knows it."""
    payload: bytes


class Noticeboard:
    """What `retained` had on both topics. Listens to `line`, and so belongs to one command."""

    def __init__(
        self, line: Line, retained: Mapping[str, bytes], trusted: Mapping[str, str], sightings: Sightings
    ) -> None:
        """`trusted`: names by public key."""
        self._line = line
        self._retained = dict(retained)
        self._trusted = trusted
        self._sightings = sightings
        self._since: dict[str, list[bytes]] = {topic: [] for topic in TOPICS.values()}
        """What was published since, by topic, oldest first."""

    def flags(self) -> Notice | None:
        """The flag document; None where there is none. Raises KioskError for one that can't be believed."""
        return self._read("flags")

    def rollout(self) -> tuple[Notice, Rollout] | None:
        """The roll-out document; None where there is none. Raises KioskError for one that can't be believed."""
        notice = self._read("rollout")
        return None if notice is None else (notice, rollout.read(notice.document))

    def next_version(self, kind: Kind, *, above: int = 0) -> int:
        """For the document that takes the place of what is there, believed or not."""
        try:
            known = self._read(kind)
        except KioskError:
            known = None
        return max(self._sightings.highest(kind), known.version if known else 0, above) + 1

    def post(self, kind: Kind, document: Mapping[str, Any], key: Key) -> Notice:
        """Sign and publish; returns when the broker repeats it to everybody.

        Raises Overtaken when a colleague was first (theirs stays), KioskError when the broker doesn't take it.
        """
        payload, topic = sign(kind, document, key.seed), TOPICS[kind]
        if len(payload) > LONGEST_BYTES[kind]:
            raise KioskError(
                f"publish {_CALLED[kind]}",
                cause=f"{len(payload)} bytes are more than kiosks and tools read ({LONGEST_BYTES[kind]})",
            )
        version = document["metadata"]["version"]
        self._line.publish(Message(topic, payload, qos=1, retain=True))
        self._hear(kind, payload)
        first = self._first_before(kind, payload)
        if first is not None:
            self._line.publish(Message(topic, first.payload, qos=1, retain=True))
            self._retained[topic] = first.payload
            raise Overtaken(
                f"publish {_CALLED[kind]}",
                place=f"version {version}",
                cause=f"{first.signer} was faster: version {first.version} is in force",
                hint="look at it, then try again",
                retryable=True,
            )
        self._retained[topic] = payload
        self._since[topic].clear()
        self._sightings.note(kind, version)
        return Notice(dict(document), version, key.name, payload)

    def _hear(self, kind: Kind, ours: bytes) -> None:
        """Until the broker repeats what we published. Raises KioskError when it doesn't."""
        for heard in self._line.hear(_PATIENCE_S):
            if heard.topic in self._since:
                self._since[heard.topic].append(heard.payload)
            if (heard.topic, heard.payload) == (TOPICS[kind], ours):
                return
        raise KioskError(
            f"publish {_CALLED[kind]}",
            place=TOPICS[kind],
            cause="the broker took it, but doesn't repeat it to us",
            hint="your access list needs `readwrite` there",
        )

    def _first_before(self, kind: Kind, ours: bytes) -> Notice | None:
        """The newest that a colleague published after what we had read and before `ours`; None if nobody did."""
        topic = TOPICS[kind]
        base = self._judged(kind, self._retained.get(topic, b""))
        heard = self._since[topic]
        rivals = (self._judged(kind, payload) for payload in heard[: heard.index(ours)])
        newer = [each for each in rivals if each is not None and (base is None or each.version > base.version)]
        return newer[-1] if newer else None

    def _read(self, kind: Kind) -> Notice | None:
        payload = self._retained.get(TOPICS[kind])
        if not payload:
            seen = self._sightings.highest(kind)
            if seen:
                raise self._error(
                    kind, f"the broker has none any more; version {seen} was there", _WAYS_OUT["older_version"]
                )
            return None
        try:
            notice = self._opened(kind, payload)
        except Refused as refused:
            raise self._error(
                kind, f"{refused} ({refused.reason})", _WAYS_OUT.get(refused.reason, _OTHERWISE)
            ) from refused
        seen = self._sightings.highest(kind)
        if notice.version < seen:
            raise self._error(
                kind, f"version {notice.version} is older than {seen}, which was there", _WAYS_OUT["older_version"]
            )
        self._sightings.note(kind, notice.version)
        return notice

    def _opened(self, kind: Kind, payload: bytes) -> Notice:
        """Raises Refused."""
        signed = opened(kind, payload, self._trusted)
        if kind == "flags":
            version = evaluation.checked(signed.document).version
        else:
            version = rollout.read(signed.document).metadata.version
        return Notice(signed.document, version, self._trusted[signed.key], payload)

    def _judged(self, kind: Kind, payload: bytes) -> Notice | None:
        try:
            return self._opened(kind, payload)
        except Refused:
            return None

    def _error(self, kind: Kind, cause: str, hint: str) -> KioskError:
        return KioskError(f"read {_CALLED[kind]}", place=TOPICS[kind], cause=cause, hint=hint.format(_REPLACED[kind]))
