"""Reading a configuration: every mistake at once, in words, and nothing but that."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent import config
from agent.config.keys import known_keys, quoted
from agent.config.lines import key_lines
from agent.errors import ConfigError, Mistake
from agent.limits import Alerts
from agent.settings import Device, Settings
from agent.units import Duration, Size

ROOT = Path(__file__).parents[2]
MINIMAL = '[device]\nsite = "north"\nid = "room-12"\n'
CANARY = "hunter2"


def mistakes(text: str) -> list[str]:
    """What a person is told about each mistake of `text`: one line, then the hint."""
    with pytest.raises(ConfigError) as refused:
        config.parse(text, "config.toml")
    return [f"{mistake}\n→ {mistake.hint}" for mistake in refused.value.mistakes]


def test_only_the_device_is_required_and_the_defaults_are_the_design() -> None:
    read = config.parse(MINIMAL, "config.toml")
    assert read == Settings(device=Device(site="north", id="room-12"))
    assert (str(read.spool.cap), str(read.spool.max_age), read.capture.rate, read.upload.target) == (
        "8GiB",
        "30d",
        16000,
        "",
    )


def test_what_is_written_is_what_is_read() -> None:
    read = config.parse(
        MINIMAL
        + """
        groups = ["internal", "pilot"]
        timezone = "Europe/Madrid"
        [capture]
        mode = "scheduled"
        pcm = "hw:CARD=KioskMic"
        [schedule]
        mon = ["08:00-13:00", "14:00-18:00"]
        sun = ["22:00-06:00"]
        [spool]
        cap = "20MB"
        sync_seconds = 1
        [upload]
        target = "s3://clinic-audio/kiosks"
        endpoint_url = "https://s3.example.org"
        max_rate = "2MiB/s"
        [mqtt]
        url = "mqtts://broker:8883"
        ca = ""
        certificate = "/etc/kiosk-recorder/kiosk.pem"
        key = "/etc/kiosk-recorder/kiosk.key"
        """,
        "config.toml",
    )
    assert read.device.groups == ("internal", "pilot")
    assert [str(hours) for hours in read.schedule.mon] == ["08:00-13:00", "14:00-18:00"]
    assert read.spool.cap == 20_000_000
    assert read.spool.sync_seconds == 1.0
    assert read.upload.max_rate == 2 * 2**20
    assert read.mqtt.ca is None
    assert read.mqtt.key == Path("/etc/kiosk-recorder/kiosk.key")


def outcome(text: str) -> tuple[Settings | None, tuple[Mistake, ...]]:
    """What becomes of `text`: settings, or mistakes. Any other exception is a failure of the test."""
    try:
        return config.parse(text, "config.toml"), ()
    except ConfigError as refused:
        return None, refused.mistakes


BAD = {
    # What the file is made of.
    "[device]\nsite = north": (
        "line 2 column 8: the value can't be read\n→ text goes in quotes; it's true and false, not True and False"
    ),
    "[spool]\ncap = 8GiB": (
        'line 2 column 8: something follows the value\n→ sizes, times and text go in quotes: "8GiB"; one key a line'
    ),
    '[device]\nsite = "a"\nsite = "b"': "line 3 column 11: is written twice\n→ keep one of the two",
    "[spool]\n[log]\n[spool]\n": "line 3 column 7: this section is there already\n→ move its keys under the first one",
    "hello\n": "line 1 column 6: isn't a key with its value\n→ write key = value, or [section]",
    '[log]\nlevel = "info\n': "line 2 column 14: a quote is missing\n→ text begins and ends with a quote on its line",
    "[device\n": (
        "line 1 column 8: isn't TOML: expected ']' at the end of a table declaration\n"
        "→ config.example.toml shows how it's written"
    ),
    # What is missing or in the wrong place.
    "": 'device: this section is missing\n→ add [device] with site = "north" and id = "room-12"',
    '[device]\nsite = "a"\n': 'line 1, device.id: is missing\n→ add it, such as id = "room-12"',
    MINIMAL + "[spool]\ncapp = 1": "line 5, spool.capp: unknown key\n→ did you mean `cap`?",
    MINIMAL + "[capture]\nsegment_seconds = 60": (
        "line 5, capture.segment_seconds: unknown key\n→ `segment_seconds` belongs to [spool]"
    ),
    MINIMAL + "[capture]\nsegment_second = 60": (
        "line 5, capture.segment_second: unknown key\n→ did you mean `segment_seconds` of [spool]?"
    ),
    MINIMAL + "[alerts.queue_lenght]\nwarning = 1": (
        "line 4, alerts.queue_lenght: unknown section\n→ did you mean [alerts.queue_length]?"
    ),
    MINIMAL + "[alerts.queue_length]\nwarnin = 1": (
        "line 5, alerts.queue_length.warnin: unknown key\n→ did you mean `warning`?"
    ),
    MINIMAL + "[queue_length]\nwarning = 1": (
        "line 4, queue_length: unknown section\n→ did you mean [alerts.queue_length]?"
    ),
    MINIMAL + "[alert.queue_length]\nwarning = 1": "line 4, alert: unknown section\n→ did you mean [alerts]?",
    MINIMAL + "[log]\nzzz = 1": "line 5, log.zzz: unknown key\n→ keys of [log] are level",
    MINIMAL + "[uplaod]\nparallel = 1": "line 4, uplaod: unknown section\n→ did you mean [upload]?",
    'cap = "1GiB"\n' + MINIMAL: "line 1, cap: stands outside its section\n→ `cap` belongs to [spool]",
    "spool = 3\n" + MINIMAL: "line 1, spool: is a whole number, not a section\n→ write [spool] on a line of its own",
    MINIMAL
    + '[[spool]]\ncap = "1GiB"': "line 4, spool: is a list, not a section\n→ write [spool] on a line of its own",
    MINIMAL + '"a\\u001b.b" = 1': (
        'line 4, device."a\\u001b.b": unknown key\n→ keys of [device] are site, id, groups, timezone'
    ),
    # What a key doesn't take.
    '[device]\nsite = "north"\nid = "../x"': (
        'line 3, device.id: "../x" can\'t be a name\n'
        "→ use 1 to 63 lower-case letters, digits and hyphens; a hyphen can't come first"
    ),
    MINIMAL + 'groups = [\n  "a",\n  "B",\n]': (
        'line 4, device.groups[1]: "B" can\'t be a name\n'
        "→ use 1 to 63 lower-case letters, digits and hyphens; a hyphen can't come first"
    ),
    MINIMAL + "groups = [7]": "line 4, device.groups[0]: 7 is a whole number, not text\n→ write it in quotes",
    MINIMAL + 'groups = "a"': 'line 4, device.groups: "a" is text, not a list\n→ write a list, such as ["internal"]',
    MINIMAL + 'timezone = "Europe/Madird"': (
        'line 4, device.timezone: "Europe/Madird" is no time zone known here\n→ did you mean "Europe/Madrid"?'
    ),
    MINIMAL + 'timezone = "../../etc/passwd"': (
        'line 4, device.timezone: "../../etc/passwd" is no time zone known here\n'
        '→ write an IANA name such as "Europe/Madrid"; `timedatectl list-timezones` lists them'
    ),
    MINIMAL + '[capture]\nrate = "16000"': (
        'line 5, capture.rate: "16000" is text, not a whole number\n'
        "→ write a whole number from 8000 to 192000 without quotes"
    ),
    MINIMAL + "[capture]\nrate = true": (
        "line 5, capture.rate: true is a truth value, not a whole number\n"
        "→ write a whole number from 8000 to 192000 without quotes"
    ),
    MINIMAL + "[capture]\nrate = 16000.0": (
        "line 5, capture.rate: 16000.0 is a decimal number, not a whole number\n"
        "→ write a whole number from 8000 to 192000 without quotes"
    ),
    MINIMAL + "[capture]\nchannels = 99": (
        "line 5, capture.channels: 99 is out of range\n→ write a whole number from 1 to 8 without quotes"
    ),
    MINIMAL + "[capture]\nchannels = 0x" + "f" * 9000: (
        "line 5, capture.channels: this number is out of range\n→ write a whole number from 1 to 8 without quotes"
    ),
    MINIMAL + '[capture]\nmode = "scheduld"': (
        'line 5, capture.mode: "scheduld" isn\'t one of its choices\n'
        '→ did you mean "scheduled"? Else write "continuous", "scheduled" or "voice"'
    ),
    MINIMAL + "[capture]\nmode = 1979-05-27": (
        'line 5, capture.mode: is a date or time, not one of its choices\n→ write "continuous", "scheduled" or "voice"'
    ),
    MINIMAL + '[capture]\npcm = "plughw:1,0"': (
        'line 5, capture.pcm: "plughw:1,0" goes by the card\'s number, which changes with what is plugged in\n'
        '→ `kiosk-recorder mics` lists the stable names, such as "hw:CARD=KioskMic"'
    ),
    MINIMAL + '[capture]\npcm = ""': (
        'line 5, capture.pcm: names no microphone\n→ `kiosk-recorder mics` lists them; "default" is the first'
    ),
    MINIMAL + "[spool]\nsync_seconds = nan": (
        "line 5, spool.sync_seconds: nan is out of range\n→ write a number from 0.5 to 60 without quotes"
    ),
    MINIMAL + "[spool]\ncap = 8": 'line 5, spool.cap: 8 has no unit\n→ write it in quotes, such as "8GiB"',
    MINIMAL + '[spool]\ncap = "8 gigs"': (
        'line 5, spool.cap: "8 gigs" isn\'t a size\n'
        '→ write a number with one of B, kB, KB, MB, GB, TB, KiB, MiB, GiB, TiB, such as "8GiB"'
    ),
    MINIMAL + "[spool]\nmax_age = 30": 'line 5, spool.max_age: 30 has no unit\n→ write it in quotes, such as "60s"',
    MINIMAL
    + "[spool]\nmax_age = [1]": 'line 5, spool.max_age: is a list, not text\n→ write it in quotes, such as "60s"',
    MINIMAL + '[spool]\nmax_age = "200000d"': (
        'line 5, spool.max_age: "200000d" is too large\n→ write a duration such as "60s"'
    ),
    MINIMAL + '[spool]\npath = "spool"': 'line 5, spool.path: "spool" is no absolute path\n→ write the path from / on',
    MINIMAL + '[spool]\npath = "/a\\u0000b"': (
        'line 5, spool.path: "/a\\u0000b" is no absolute path\n→ write the path from / on'
    ),
    MINIMAL + '[upload]\nmax_rate = "2MiB"': (
        'line 5, upload.max_rate: "2MiB" isn\'t a rate\n→ write a size per second, such as "2MiB/s", or "" for no limit'
    ),
    MINIMAL + '[schedule]\nmon = ["8-13"]': (
        'line 5, schedule.mon[0]: "8-13" isn\'t a stretch of hours\n→ write from and to, such as "08:00-13:00"'
    ),
    MINIMAL + "[schedule]\nmon = [08:00:00]": (
        "line 5, schedule.mon[0]: is a date or time, not text\n→ write it in quotes"
    ),
    MINIMAL + "[schedule]\nmon = 1979-05-27": (
        'line 5, schedule.mon: is a date or time, not a list\n→ write a list, such as ["08:00-13:00"]'
    ),
    MINIMAL + '[mqtt]\nurl = "mqtts://broker"\nca = 1979-05-27': (
        'line 6, mqtt.ca: is a date or time, not a path\n→ write it in quotes, such as "/etc/kiosk-recorder/file"'
    ),
    # What doesn't go together.
    MINIMAL + '[spool]\ncap = "3MB"': (
        "line 5, spool.cap: 3MB can't hold two segments: 60 s of 1 × 16000 Hz take up to 1.92 MiB\n"
        '→ set it to at least "4MiB", or shorten spool.segment_seconds'
    ),
    MINIMAL + "[capture]\nrate = 192000\nchannels = 8\nring_seconds = 5\n[spool]\nsegment_seconds = 3600": (
        "line 8, spool.cap: 8GiB can't hold two segments: 3600 s of 8 × 192000 Hz take up to 10.5 GiB\n"
        '→ set it to at least "21424MiB", or shorten spool.segment_seconds'
    ),
    MINIMAL + '[spool]\ncap = "100MB"\nquarantine_cap = "60MB"': (
        "line 6, spool.quarantine_cap: 60MB leaves too little of spool.cap (100MB) for recordings\n"
        '→ use at most "47MiB"'
    ),
    MINIMAL + '[spool]\ncap = "5MiB"\nquarantine_cap = "2MiB"': (
        'line 6, spool.quarantine_cap: 2MiB leaves too little of spool.cap (5MiB) for recordings\n→ use at most "1MiB"'
    ),
    MINIMAL + '[spool]\ndirect_cap = "100KiB"': (
        "line 5, spool.direct_cap: 100KiB can't hold two seconds of recordings: should the card fail, "
        "nothing could be recorded\n"
        '→ set it to at least "1MiB"'
    ),
    MINIMAL + '[spool]\nmax_age = "10s"': (
        "line 5, spool.max_age: 10s is shorter than one segment: every recording would go as soon as it is there\n"
        '→ use days, such as "30d", or "0s" for no limit'
    ),
    MINIMAL + '[spool]\nkeep_uploaded = "60d"': (
        "line 5, spool.keep_uploaded: 60d is longer than spool.max_age (30d), which ends it\n"
        "→ shorten it, or raise spool.max_age"
    ),
    MINIMAL + "[capture]\nrate = 192000\nchannels = 8\nring_seconds = 60": (
        "line 7, capture.ring_seconds: 60 s at this rate take 176 MiB of memory\n"
        "→ use at most 43, or a lower capture.rate"
    ),
    MINIMAL + '[capture]\nmode = "scheduled"': (
        'line 5, capture.mode: is "scheduled" without any hours\n→ add a section [schedule] with mon = ["08:00-18:00"]'
    ),
    MINIMAL + '[schedule]\nmon = ["08:00-13:00"]': (
        'line 4, schedule: has hours, yet recording doesn\'t keep to them while capture.mode is "continuous"\n'
        '→ set capture.mode = "scheduled", or remove the hours'
    ),
    MINIMAL + "[voice]\nthreshold_db = 12": (
        'line 4, voice: is set, yet everything is recorded while capture.mode is "continuous"\n'
        '→ set capture.mode = "voice", or remove the section'
    ),
    MINIMAL + '[capture]\nmode = "voice"\n[voice]\npreroll = "40s"': (
        "line 7, voice.preroll: 40s is more than the 30 s that capture.ring_seconds keeps in memory\n"
        '→ use at most "30s", or raise capture.ring_seconds'
    ),
    MINIMAL + '[capture]\nmode = "voice"\n[voice]\nhangover = "1h"': (
        'line 7, voice.hangover: 1h is out of range\n→ use "1s" to "10m"'
    ),
    MINIMAL + '[upload]\nhours = ["20:00-06:00", "05:00-07:00"]': (
        'line 5, upload.hours: "20:00-06:00" overlaps "05:00-07:00"\n→ write each time once: join the two or part them'
    ),
    MINIMAL + '[capture]\nmode = "scheduled"\n[schedule]\nmon = ["05:00-09:00"]\nsun = ["22:00-06:00"]': (
        'line 8, schedule.sun: "22:00-06:00" overlaps "05:00-09:00" of schedule.mon\n'
        "→ write each time once: join the two or part them"
    ),
    # Places.
    MINIMAL + '[upload]\ntarget = "bucket/prefix"': (
        'line 5, upload.target: "bucket/prefix" is no place recordings can go to\n'
        '→ write "s3://bucket/prefix", "file:///path", or "" to keep them in the spool'
    ),
    MINIMAL + '[upload]\ntarget = "s3://ab/prefix"': (
        'line 5, upload.target: "s3://ab/prefix" has no possible bucket name\n'
        "→ buckets have 3 to 63 lower-case letters, digits, dots and hyphens"
    ),
    MINIMAL + '[upload]\ntarget = "s3://bucket/a//b"': (
        'line 5, upload.target: "s3://bucket/a//b" has a prefix that can\'t be part of every key\n'
        "→ write s3://bucket/prefix without a slash at the end; prefixes have letters, digits and !_.*'()-"
    ),
    MINIMAL + '[upload]\ntarget = "file://nas/share"': (
        'line 5, upload.target: "file://nas/share" names no directory\n→ write file:///absolute/path'
    ),
    MINIMAL + '[upload]\ntarget = "file:///var/lib/kiosk-recorder/spool/out"': (
        'line 5, upload.target: "file:///var/lib/kiosk-recorder/spool/out" lies inside spool.path\n'
        "→ uploads need a place of their own, such as a NAS or a USB disk"
    ),
    MINIMAL + '[upload]\nregion = "eu-west-1"': (
        "line 5, upload.region: says where a bucket is, yet upload.target names none\n"
        '→ set upload.target = "s3://bucket/prefix", or remove it'
    ),
    MINIMAL + '[upload]\ntarget = "s3://bucket"\nendpoint_url = "s3.example.org"': (
        'line 6, upload.endpoint_url: "s3.example.org" is no address of a store\n'
        '→ write it such as "https://s3.example.org"'
    ),
    MINIMAL + '[upload]\ntarget = "s3://bucket"\nendpoint_url = "http://nas:9000"': (
        'line 6, upload.endpoint_url: "http://nas:9000" would send recordings unencrypted\n'
        "→ use https://; http:// is for this machine only"
    ),
    MINIMAL + '[mqtt]\nurl = "http://broker"': (
        'line 5, mqtt.url: "http://broker" is no address of a broker\n→ write it such as "mqtts://broker:8883"'
    ),
    MINIMAL + '[mqtt]\nurl = "mqtts://broker:99999"': (
        'line 5, mqtt.url: "mqtts://broker:99999" is no address of a broker\n→ write it such as "mqtts://broker:8883"'
    ),
    MINIMAL + '[mqtt]\nurl = "mqtt://broker"': (
        'line 5, mqtt.url: "mqtt://broker" would speak unencrypted\n'
        "→ use mqtts:// (port 8883); mqtt:// is for a broker on this machine only"
    ),
    MINIMAL + '[mqtt]\nusername = "kiosk"': (
        "line 5, mqtt.username: is set, yet mqtt.url names no broker\n→ set mqtt.url, or remove it"
    ),
    MINIMAL + '[mqtt]\nurl = "mqtts://broker"\nusername = "kiosk"': (
        "line 6, mqtt.username: is set without mqtt.password_file\n→ set mqtt.password_file as well"
    ),
    MINIMAL + '[mqtt]\nurl = "mqtts://broker"\npassword_file = "/nowhere/password"': (
        "line 6, mqtt.password_file: is set without mqtt.username\n→ set mqtt.username as well"
    ),
    MINIMAL + '[mqtt]\nurl = "mqtts://broker"\nkey = "/nowhere/key"': (
        "line 6, mqtt.key: is set without mqtt.certificate\n→ set mqtt.certificate as well"
    ),
    MINIMAL + '[mqtt]\nurl = "mqtt://[::1]"\nca = "/nowhere/ca"': (
        "line 6, mqtt.ca: does nothing on an mqtt:// address\n→ use mqtts://, or remove it"
    ),
    MINIMAL + '[mqtt]\ndiscovery_prefix = "home/#"': (
        'line 5, mqtt.discovery_prefix: "home/#" is no topic that Home Assistant would look at\n'
        '→ write "homeassistant", or what its MQTT integration calls the discovery prefix'
    ),
    MINIMAL + '[mqtt]\ndiscovery_prefix = "kiosk/v1"': (
        'line 5, mqtt.discovery_prefix: "kiosk/v1" is no topic that Home Assistant would look at\n'
        '→ write "homeassistant", or what its MQTT integration calls the discovery prefix'
    ),
    MINIMAL + '[mqtt]\nurl = "mqtts://broker"\nca = "ca.pem"': (
        'line 6, mqtt.ca: "ca.pem" is no absolute path\n→ write the path from / on'
    ),
    MINIMAL + '[export]\ntextfile = "kiosk.prom"': (
        'line 5, export.textfile: "kiosk.prom" is no absolute path\n→ write the path from / on'
    ),
    MINIMAL + '[export]\ntextfile = "/run/kiosk.txt"': (
        'line 5, export.textfile: "/run/kiosk.txt" would not be read by node_exporter\n'
        '→ end it in ".prom", in the directory that --collector.textfile.directory names'
    ),
    MINIMAL + '[export]\ntextfile = "/var/lib/kiosk-recorder/kiosk.prom"': (
        "line 5, export.textfile: lies inside spool.path\n→ choose a directory in memory, such as below /run"
    ),
}


@pytest.mark.parametrize(("text", "told"), BAD.items(), ids=[told.partition("\n")[0] for told in BAD.values()])
def test_a_mistake_is_told_with_its_line_and_the_way_out(text: str, told: str) -> None:
    assert mistakes(text) == [told]


GOOD = (
    '[upload]\ntarget = "s3://bucket"',
    '[upload]\ntarget = "s3://bucket"\nendpoint_url = "http://127.0.0.1:8333"\nregion = "eu-west-1"',
    '[upload]\ntarget = "file:///mnt/nas/kiosks"',
    '[mqtt]\nurl = "mqtt://localhost:1883"',
    '[mqtt]\nurl = "mqtts://broker.example.org/"',
    '[spool]\nmax_age = "0s"\nkeep_uploaded = "60d"',
    '[spool]\ncap = "100MB"\nquarantine_cap = "47MiB"',
    '[capture]\nmode = "voice"\n[voice]\npreroll = "30s"',
    '[capture]\npcm = "default:CARD=KioskMic"',
)


@pytest.mark.parametrize("text", GOOD)
def test_what_is_right_is_taken(text: str) -> None:
    config.parse(MINIMAL + text, "config.toml")


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
[log]
level = "loud"
[spool]
cap = 8
path = "spool"
colour = "red"

[device]
site = "North"
[capture]
pcm = "hw:0"
mode = "scheduled"
"""
    with pytest.raises(ConfigError) as refused:
        config.parse(text, "/etc/kiosk-recorder/config.toml")
    assert (
        str(refused.value)
        == """\
read configuration /etc/kiosk-recorder/config.toml: 8 mistakes
  line 2, log.level: "loud" isn't one of its choices
    → write "debug", "info", "warning" or "error"
  line 4, spool.cap: 8 has no unit
    → write it in quotes, such as "8GiB"
  line 5, spool.path: "spool" is no absolute path
    → write the path from / on
  line 6, spool.colour: unknown key
    → keys of [spool] are path, cap, keep_free, max_age, segment_seconds, sync_seconds, when_full, keep_uploaded, \
quarantine_cap, direct_cap
  line 8, device.id: is missing
    → add it, such as id = "room-12"
  line 9, device.site: "North" can't be a name
    → use 1 to 63 lower-case letters, digits and hyphens; a hyphen can't come first
  line 11, capture.pcm: "hw:0" goes by the card's number, which changes with what is plugged in
    → `kiosk-recorder mics` lists the stable names, such as "hw:CARD=KioskMic"
  line 12, capture.mode: is "scheduled" without any hours
    → add a section [schedule] with mon = ["08:00-18:00"]"""
    )


def test_a_single_mistake_reads_as_one_error() -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(MINIMAL + "[spool]\ncapp = 1", "config.toml")
    assert (
        str(refused.value) == "read configuration config.toml: line 5, spool.capp: unknown key\n  → did you mean `cap`?"
    )


def test_one_slip_isnt_told_twice_through_what_depends_on_it() -> None:
    text = MINIMAL + '[mqtt]\nurl = "mqtts://broker"\nusername = "kiosk"\npasword_file = "/nowhere/password"'
    assert mistakes(text) == ["line 7, mqtt.pasword_file: unknown key\n→ did you mean `password_file`?"]
    assert len(mistakes(MINIMAL + '[capture]\nmode = "sceduled"\n[schedule]\nmon = ["08:00-13:00"]')) == 1


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root reads everything; for a moment be somebody who doesn't."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


class TestTheFile:
    def test_the_one_named_wins_over_the_environment_and_that_over_the_default(self, tmp_path: Path) -> None:
        named, other = tmp_path / "named.toml", tmp_path / "other.toml"
        named.write_text(MINIMAL)
        other.write_text(MINIMAL.replace("north", "south"))
        environ = {"KIOSK_RECORDER_CONFIG": str(other)}
        assert config.load(named, environ).device.site == "north"
        assert config.load(None, environ).device.site == "south"
        assert config.locate(None, {"KIOSK_RECORDER_CONFIG": ""}) == Path("/etc/kiosk-recorder/config.toml")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as refused:
            config.load(tmp_path / "config.toml", {})
        assert str(refused.value) == (
            f"read configuration {tmp_path}/config.toml: no such file\n"
            "  → copy config.example.toml there, or name another file with --config or KIOSK_RECORDER_CONFIG"
        )

    def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as refused:
            config.load(tmp_path, {})
        assert str(refused.value) == (
            f"read configuration {tmp_path}: is a directory\n  → name the file: {tmp_path}/config.toml"
        )

    def test_unreadable(self, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        file.write_text(MINIMAL)
        file.chmod(0)
        with as_nobody(), pytest.raises(ConfigError, match="may not be read by this user"):
            config.load(file, {})

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="Not a directory"):
            config.load(tmp_path / "file" / "config.toml", {})

    def test_with_an_impossible_name(self) -> None:
        with pytest.raises(ConfigError, match="null byte"):
            config.load(Path("/etc/\0"), {})

    def test_not_utf_8(self, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        file.write_bytes(MINIMAL.encode() + b'timezone = "Espa\xf1a"\n')
        with pytest.raises(ConfigError) as refused:
            config.load(file, {})
        assert str(refused.value) == (
            f"read configuration {file}: line 4: isn't UTF-8 text\n  → save it as UTF-8, the encoding of TOML"
        )

    def test_far_too_large(self) -> None:
        with pytest.raises(ConfigError, match="far too large"):
            config.load(Path("/dev/zero"), {})

    def test_saved_by_a_windows_editor(self, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
        assert config.load(file, {}).device.id == "room-12"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_a_password_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        password, file = tmp_path / "password", tmp_path / "config.toml"
        password.write_text(CANARY)
        password.chmod(mode)
        file.write_text(MINIMAL + f'[mqtt]\nurl = "mqtts://broker"\nusername = "kiosk"\npassword_file = "{password}"\n')
        with pytest.raises(ConfigError) as refused:
            config.load(file, {})
        assert str(refused.value) == (
            f"read configuration {file}: line 7, mqtt.password_file: {password} may be read by others than its owner\n"
            f"  → chmod 600 {password}"
        )
        password.chmod(0o600)
        assert config.load(file, {}).mqtt.password_file == password


def test_lines_are_found_through_every_form_of_toml() -> None:
    text = '''\
# device.site = "no"
top = """
site = 1
[spool]
"""

[device] # comment
groups = [ # a ]
  "a",
  # site = "no"
  "b", # ]
]
site."sub.key" = 1
"quoted" = 'x'
[spool.deep]
cap = {a = 1,
 b = 2}
[[list]]
x = 1
[[list]]
y = [[1],
 [2]]
'''.replace("{a = 1,\n b = 2}", "{a = 1, b = 2}\n")
    assert tomllib.loads(text)
    assert key_lines(text) == {
        ("top",): 2,
        ("device",): 7,
        ("device", "groups"): 8,
        ("device", "site"): 13,
        ("device", "site", "sub.key"): 13,
        ("device", "quoted"): 14,
        ("spool",): 15,
        ("spool", "deep"): 15,
        ("spool", "deep", "cap"): 16,
        ("spool", "deep", "cap", "a"): 16,
        ("spool", "deep", "cap", "b"): 16,
        ("list",): 18,
        ("list", "x"): 19,
        ("list", "y"): 21,
    }


scalars = (
    st.integers(-(2**70), 2**70).map(str)
    | st.sampled_from(
        ["nan", "-inf", "1e300", "true", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "16000", "2.5"]
    )
    | st.text(max_size=12).map(lambda text: quoted(text.encode("utf-8", "replace").decode()))
    | st.sampled_from(
        ["8GiB", "60s", "", "22:00-06:00", "00:00-24:00", "s3://abc/d", "mqtts://a:b@c?d", "file:///", "/a"]
    ).map(quoted)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"k{n} = {item}" for n, item in enumerate(items)) + "}"
        )
    ),
    max_leaves=5,
)
names = st.sampled_from([key for keys in known_keys().values() for key in keys]) | st.sampled_from(
    ["", "capp", "k.k", "\x1b[31m", "spool"]
).map(quoted)
sections = st.sampled_from([f"[{name}]" for name in (*known_keys(), "spool.cap", "unknown")] + ["[[spool]]", ""])
documents = st.lists(
    st.tuples(sections, st.dictionaries(names, values, max_size=6)).map(
        lambda section: section[0] + "\n" + "".join(f"{key} = {value}\n" for key, value in section[1].items())
    ),
    max_size=6,
).map("".join)


@settings(max_examples=400)
@example('0 = 0\n".0" = 0')
@example('"alerts.queue_length" = 1')
@given(documents.map(lambda text: MINIMAL + text) | documents | st.text())
@example("device = 1\n[[spool]]")
@example("spool = 1\n" + MINIMAL)
@example(MINIMAL + "[schedule]\nmon = 1979-05-27")
@example(MINIMAL + "x = [[[[[[[[1]]]]]]]]")
@example("[device]\nsite = {}\nid = [[1979-05-27]]\nx.y.z = 07:32:00")
def test_whatever_is_written_it_is_read_or_refused_in_words(text: str) -> None:
    read, told = outcome(text)
    if read is not None:
        assert config.parse(config.as_toml(read), "shown") == read
        return
    assert told
    for mistake in told:
        assert f"{mistake}{mistake.hint}".isprintable()
        assert not re.search(r"pydantic|Input should|Value error", f"{mistake}{mistake.hint}")
        assert mistake.line is None or 1 <= mistake.line <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = " + "[" * 5000, ["is nested too deeply, or has a number too long to read\n→ "]),
        (MINIMAL + "x = " + "9" * 5000, ["is nested too deeply, or has a number too long to read\n→ "]),
        (
            MINIMAL + "x" + ".a" * 5000 + " = 1",
            ["line 4, device.x: unknown key\n→ keys of [device] are site, id, groups, timezone"],
        ),
        (MINIMAL + "[log." + "a." * 5000 + "a]", ["line 4, log.a: unknown key\n→ keys of [log] are level"]),
    ],
    ids=["lists", "digits", "keys", "sections"],
)
def test_what_python_itself_gives_up_on_is_refused_likewise(text: str, told: list[str]) -> None:
    # Hypothesis has a callback in the garbage collector, which would fail on what is left of the stack.
    gc.disable()
    try:
        assert mistakes(text) == told
    finally:
        gc.enable()


SECRETIVE = (
    f'url = "mqtts://kiosk:{CANARY}@broker:8883"',
    f'url = "mqtts://kiosk:a/{CANARY}@broker"',
    f'url = "kiosk:{CANARY}@broker"',
    f'url = "mqtts://broker?password={CANARY}"',
    f'url = "mqtts://broker#{CANARY}"',
    f'url = ["{CANARY}"]',
    f'password = "{CANARY}"',
    f'url = "mqtts://broker"\nusername = "kiosk"\npassword_file = "{CANARY}"',
    f'url = "mqtts://broker"\nkey = ["{CANARY}"]',
    f'url = "mqtts://broker"\nkey = "{CANARY}"\ncertificate = "/c"',
    f"password = {CANARY}",
    f'[upload]\nendpoint_url = "https://kiosk:{CANARY}@s3.example.org"\ntarget = "s3://bucket"',
    f'[upload]\nendpoint_url = "https://s3.example.org/?X-Amz-Signature={CANARY}"\ntarget = "s3://bucket"',
    f'[upload]\ntarget = "s3://kiosk:{CANARY}@bucket/prefix"',
)


@pytest.mark.parametrize("text", SECRETIVE)
def test_a_secret_in_the_wrong_place_is_refused_without_being_shown(text: str) -> None:
    assert CANARY not in "\n".join(mistakes(MINIMAL + "[mqtt]\n" + text))


def test_importing_the_configuration_loads_no_validator() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, agent.config; print({'pydantic', 'pydantic_core'} & set(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


class TestAlerts:
    def parsed(self, text: str) -> Settings:
        return config.parse(f"{MINIMAL}[alerts.{text}", "config.toml")

    def test_what_is_not_said_keeps_the_default_of_the_table(self) -> None:
        limits = self.parsed("queue_length]\nwarning = 5").alerts.queue_length
        assert limits == replace(Alerts().queue_length, warning=5.0)

    def test_a_limit_has_the_unit_of_its_number_or_is_off(self) -> None:
        assert self.parsed('storage]\nwarning = "1MB"\ncritical = "off"').alerts.storage == replace(
            Alerts().storage, warning=Size(1_000_000), critical=None
        )
        assert self.parsed('credentials]\nwarning = "5m"').alerts.credentials.warning == Duration(300)

    @pytest.mark.parametrize(
        ("text", "mistake"),
        [
            ("queue_length]\nwarning = 30", "critical: 20 isn't worse than the warning at 30\n→ set it above 30, or"),
            ("queue_length]\nwarning = 20", "critical: 20 isn't worse than the warning at 20\n→ set it above 20, or"),
            (
                "upload_success_rate]\nwarning = 80",
                "critical: 85 isn't worse than the warning at 80\n→ set it below 80",
            ),
            (
                'microphone_missing]\nwarning = "2m"',
                "critical: 1m isn't worse than the warning at 2m\n→ set it above 2m",
            ),
            ("storage]\nwarning = 3", "warning: 3 has no unit\n→ write it in quotes, such as"),
            ('storage]\nwarning = "10m"', 'warning: "10m" isn\'t a size\n→ '),
            (
                'queue_length]\nwarning = "3"',
                'warning: "3" is text, not a number\n→ write a number without quotes, or "off"',
            ),
            ("queue_length]\nwarning = true", "warning: true is a truth value, not a number\n→ "),
            ("queue_length]\nwarning = nan", "warning: nan isn't a limit\n→ write a number, or"),
            ("queue_length]\nhysteresis = -1", "hysteresis: -1 is out of range\n→ "),
            ("queue_length]\nraise_after = 3", "raise_after: 3 has no unit\n→ "),
        ],
    )
    def test_limits_that_make_no_sense_are_refused(self, text: str, mistake: str) -> None:
        (found,) = mistakes(f"{MINIMAL}[alerts.{text}")
        assert f"alerts.{text.partition(']')[0]}.{mistake}" in found

    def test_one_mistake_does_not_hide_another_alerts(self) -> None:
        found = mistakes(MINIMAL + "[alerts.storage]\nwarning = 3\n[alerts.queue_length]\nwarning = 30")
        assert [each.partition(": ")[0] for each in found] == [
            "line 5, alerts.storage.warning",
            "line 6, alerts.queue_length.critical",
        ]

    def test_a_section_that_is_none_is_refused(self) -> None:
        assert mistakes(MINIMAL + "[alerts]\nqueue_length = 3") == [
            (
                "line 5, alerts.queue_length: is a whole number, not a section\n"
                "→ write [alerts.queue_length] on a line of its own"
            )
        ]

    def test_what_is_shown_reads_back_as_the_same(self) -> None:
        read = self.parsed('storage]\nwarning = "1MB"\ncritical = "off"\n[alerts.no_signal]\nwarning = -70')
        shown = config.as_toml(read)
        assert '[alerts.storage]\nwarning = "1MB"  # default: "100MB"\ncritical = "off"  # default: "500MB"\n' in shown
        assert config.parse(shown, "shown") == read


@pytest.mark.parametrize(("section", "key"), [("mqtt", "key"), ("mqtt", "password_file"), ("custody", "key")])
def test_a_secret_in_the_place_of_its_file_is_not_repeated(section: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.parse(
            f'[device]\nsite = "north"\nid = "room-12"\n[{section}]\n{key} = "c2VjcmV0c2VlZA=="\n', "config.toml"
        )
    assert f"{section}.{key}: the value is no absolute path" in str(error.value)
    assert "c2VjcmV0" not in str(error.value)
