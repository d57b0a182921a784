"""The kiosk's settings: one frozen dataclass a section of `config.toml`.

This module is the single definition of every key, its type, default, unit and meaning. `agent.config` reads a file
into it with pydantic; the long-running processes only ever see these plain values, so that neither of them carries
a validation library in its memory (docs/adr/0002).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from annotated_types import Ge, Le

from agent.contract import age
from agent.contract.names import Named
from agent.contract.signed import PublicKey
from agent.hours import ALWAYS, Hours, Week
from agent.limits import Alerts
from agent.units import ByteRate, Duration, MisreadError, Size

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_SECTION: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}

Name = Annotated[str, Named()]
"""Matches `agent.contract.names.NAME`."""

AdminKey = Annotated[str, PublicKey()]
"""The public half of a signing key: "ed25519:…"."""


Recipient = Annotated[str, age.PublicKey()]
"""An age public key: "age1…" or "ssh-ed25519 …"."""

GpioLine = Annotated[int, Ge(0), Le(27)]
"""Of the Raspberry Pi's header. Line 0 isn't free: an extension board tells there what it is."""


class _EmptyIsNone:
    """Lets a file say "" where there is no path: TOML has no null."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def read(value: object) -> object:
            if value is None:
                raise MisreadError("isn't a path", 'write it in quotes; "" names none')
            return None if value == "" else value

        def write(path: Path | None) -> str:
            return "" if path is None else str(path)

        return core_schema.no_info_before_validator_function(
            read, handler(source), serialization=core_schema.plain_serializer_function_ser_schema(write)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "path"}


_SEGMENTS_IN_MEMORY: Final = 4
"""The direct path holds as many segments at least, or makes them shorter."""

OptionalPath = Annotated[Path | None, _EmptyIsNone()]
"""A file that need not be named; "" in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Who this kiosk is. The only section without defaults."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    site: Name
    """The clinic: lower-case letters, digits and hyphens."""
    id: Name
    """The kiosk, unique in the whole fleet."""
    groups: tuple[Name, ...] = ()
    """Roll-out groups this kiosk belongs to, such as "internal"."""
    timezone: str = "UTC"
    """IANA zone in which `schedule` and `upload.hours` are read, such as "Europe/Madrid"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The microphone and when it is listened to."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    pcm: str = "default"
    """ALSA PCM, by stable name: "hw:CARD=KioskMic". `kiosk-recorder mics` lists them."""
    rate: Annotated[int, Ge(8000), Le(192000)] = 16000
    """Frames per second; the card must grant exactly this."""
    channels: Annotated[int, Ge(1), Le(8)] = 1
    """Channels; the card must grant exactly this."""
    mode: Literal["continuous", "scheduled", "voice"] = "continuous"
    """Record always, in the hours of `schedule`, or while somebody speaks."""
    ring_seconds: Annotated[int, Ge(5), Le(300)] = 30
    """Audio held in memory while the card is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Weekly recording hours in the kiosk's zone, for `capture.mode = "scheduled"`."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    mon: tuple[Hours, ...] = ()
    """Hours such as ["08:00-13:00", "14:00-18:00"]; "22:00-06:00" runs past midnight."""
    tue: tuple[Hours, ...] = ()
    """As `mon`."""
    wed: tuple[Hours, ...] = ()
    """As `mon`."""
    thu: tuple[Hours, ...] = ()
    """As `mon`."""
    fri: tuple[Hours, ...] = ()
    """As `mon`."""
    sat: tuple[Hours, ...] = ()
    """As `mon`."""
    sun: tuple[Hours, ...] = ()
    """As `mon`."""

    @property
    def week(self) -> Week:
        """Seven days, Monday first, as `agent.hours` takes them."""
        return (self.mon, self.tue, self.wed, self.thu, self.fri, self.sat, self.sun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The energy detector of `capture.mode = "voice"`."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    threshold_db: Annotated[float, Ge(3), Le(40)] = 10.0
    """Decibels above the adaptive noise floor that count as voice."""
    preroll: Duration = Duration(3)
    """Audio kept from before the voice was noticed."""
    hangover: Duration = Duration(5)
    """How long recording goes on after the voice has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The ring of files on the card and its limits."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    path: Path = Path("/var/lib/kiosk-recorder")
    """Holds `spool/` (recordings) and `state/` (the ledger)."""
    cap: Size = Size(8 * 2**30)
    """Hard limit of everything under `spool/`."""
    keep_free: Size = Size(2**30)
    """Room left on the file system for others."""
    max_age: Duration = Duration(30 * 86400)
    """Recordings older than this are removed, uploaded or not; "0s" keeps them until the cap."""
    segment_seconds: Annotated[int, Ge(1), Le(3600)] = 60
    """Length of one file."""
    sync_seconds: Annotated[float, Ge(0.5), Le(60)] = 2.0
    """How often what was written is forced onto the card."""
    when_full: Literal["drop-oldest", "stop"] = "drop-oldest"
    """At the cap: give up the oldest recording, or stop recording."""
    keep_uploaded: Duration = Duration(0)
    """How long an uploaded recording stays here."""
    quarantine_cap: Size = Size(256 * 2**20)
    """Part of `cap` that files nobody understands may fill; less by itself under a small `cap`."""
    direct_cap: Size = Size(64 * 2**20)
    """Memory for recordings while they can't go to the card; beyond it the oldest are given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Who can open the recordings. Nobody else can, and the kiosk itself can't."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    recipients: tuple[Recipient, ...] = ()
    """age public keys, each of which opens every recording: "age1…" or "ssh-ed25519 …"; [] encrypts nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Where recordings go, how fast and when."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    target: str = ""
    """"s3://bucket/prefix", "file:///path", or "" to keep everything in the spool."""
    endpoint_url: str = ""
    """Address of an S3-compatible store; "" is AWS."""
    region: str = ""
    """Region of the bucket; "" leaves it to boto3's own chain."""
    parallel: Annotated[int, Ge(1), Le(16)] = 2
    """Uploads at the same time."""
    order: Literal["oldest", "newest"] = "oldest"
    """Which recording goes first."""
    max_rate: ByteRate = ByteRate(0)
    """Ceiling for all uploads together, such as "2MiB/s"; "" is none."""
    hours: tuple[Hours, ...] = ()
    """Daily hours in which uploads may run, such as ["20:00-06:00"]; [] is always."""
    clock_wait: Duration = Duration(600)
    """How long to wait for a synchronised clock before keys are made from the store's clock."""

    @property
    def week(self) -> Week:
        """`hours` on each of seven days, as `agent.hours` takes them; always when there are none."""
        return (self.hours,) * 7 if self.hours else ALWAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """The broker. Without `url` the kiosk stays silent."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    url: str = ""
    """"mqtts://broker:8883", "mqtt://127.0.0.1:1883", or "" for no broker."""
    ca: OptionalPath = None
    """Certificate authority that signed the broker's certificate; "" trusts the system's."""
    certificate: OptionalPath = None
    """This kiosk's client certificate, for brokers that ask for one; needs `key`."""
    key: OptionalPath = None
    """The key of `certificate`."""
    username: str = ""
    """Name for brokers that ask for one; needs `password_file`."""
    password_file: OptionalPath = None
    """A file, readable by the courier alone, whose first line is the password."""
    discovery_prefix: str = "homeassistant"
    """Home Assistant's topic for discovery, there and here the same; "" tells it nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Who may steer this kiosk."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    admin_keys: tuple[AdminKey, ...] = ()
    """Public keys of the admins whose commands count; `kiosk-fleet keys` makes them. [] obeys nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What people in the room, or those who answer to them, may ask for."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    mute_minutes: Annotated[int, Ge(1), Le(1440)] = 30
    """How long a mute lasts that doesn't say, and one by the button."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpio:
    """The light and the button for the people in the room, on the Raspberry Pi's GPIO lines (BCM numbers)."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    led: GpioLine = 0
    """The line of an LED that tells whether the room is recorded, such as 17; 0: there is none."""
    button: GpioLine = 0
    """The line of a button to ground that mutes for `privacy.mute_minutes`, such as 27; 0: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """How it can be proved that the store holds everything, unaltered (docs/CUSTODY.md)."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    key: OptionalPath = Path("/etc/kiosk-recorder/device.key")
    """This device's signing key, made by `kiosk-recorder enrol`; without one nothing is signed."""
    manifest_every: Duration = Duration(3600)
    """How often the journal is signed and uploaded, when there is something new."""
    history: Duration = Duration(90 * 86400)
    """How long the journal stays here once it's uploaded; "0s" keeps it for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Whose feature flags count."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    keys: tuple[AdminKey, ...] = ()
    """Public keys that may sign flag documents; [] leaves every flag at its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """For those who watch the machine itself."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    textfile: OptionalPath = None
    """A file for node_exporter's textfile collector, such as "/run/prometheus/kiosk.prom"; "" writes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What goes to standard error (and so to the journal)."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important message that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything in `config.toml`."""

    __pydantic_config__: ClassVar[Any] = _SECTION

    device: Device
    capture: Capture = field(default_factory=Capture)
    schedule: Schedule = field(default_factory=Schedule)
    voice: Voice = field(default_factory=Voice)
    spool: Spool = field(default_factory=Spool)
    seal: Seal = field(default_factory=Seal)
    upload: Upload = field(default_factory=Upload)
    mqtt: Mqtt = field(default_factory=Mqtt)
    commands: Commands = field(default_factory=Commands)
    custody: Custody = field(default_factory=Custody)
    privacy: Privacy = field(default_factory=Privacy)
    gpio: Gpio = field(default_factory=Gpio)
    flags: Flags = field(default_factory=Flags)
    export: Export = field(default_factory=Export)
    alerts: Alerts = field(default_factory=Alerts)
    log: Log = field(default_factory=Log)

    def on_direct_path(self, root: Path) -> Settings:
        """The same kiosk with its spool in memory, below `root`: of its segments at least two fit (docs/adr/0007)."""
        fitting = self.spool.segment_seconds
        while fitting > 1 and _SEGMENTS_IN_MEMORY * self._reserve_bytes(fitting) > self.spool.direct_cap:
            fitting = max(1, fitting // 2)
        spool = replace(
            self.spool,
            path=root,
            cap=self.spool.direct_cap,
            quarantine_cap=Size(self.spool.direct_cap // 4),
            keep_free=Size(0),
            keep_uploaded=Duration(0),
            when_full="drop-oldest",
            segment_seconds=fitting,
        )
        return replace(self, spool=spool)

    @property
    def recording_week(self) -> Week:
        """The hours in which the room may be heard: the schedule's in scheduled mode, else all of them."""
        return self.schedule.week if self.capture.mode == "scheduled" else ALWAYS

    @property
    def segment_reserve_bytes(self) -> int:
        """The most one segment and its sidecar can take on the card.

        Audio: where nothing can be compressed FLAC stores the samples as they are (16 bit), adding at most 18 bytes a
        frame and 1 byte a channel to blocks of at least 1152 samples (RFC 9639 §9): less than 1/64. Sidecar: 128 bytes
        and 64 for each sync (docs/SPOOL.md). What age adds to each 64 KiB, 16 bytes, is within that 1/64, too. The last
        64 KiB hold age's header, FLAC's metadata blocks, short last blocks and the sealing record.
        """
        return self._reserve_bytes(self.spool.segment_seconds)

    @property
    def least_direct_cap(self) -> int:
        """Bytes that the direct path needs at least."""
        return 2 * self._reserve_bytes(1)

    def _reserve_bytes(self, segment_seconds: int) -> int:
        audio = self.capture.rate * self.capture.channels * 2 * segment_seconds
        syncs = math.ceil(segment_seconds / self.spool.sync_seconds)
        return audio + audio // 64 + 128 + 64 * syncs + 64 * 1024
