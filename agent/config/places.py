"""Places a configuration may name, as addresses and paths: the broker, the store, the target, files."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from agent.config.keys import shown
from agent.errors import Mistake
from agent.settings import Settings

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_PREFIX_PART = re.compile(r"[A-Za-z0-9!_.*'()-]+")
"""Characters S3 calls safe in keys."""

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*")
_HOST = re.compile(r"[A-Za-z0-9._-]+")


def spool_path_is_absolute(settings: Settings) -> Iterator[Mistake]:
    """The spool doesn't depend on where a process was started."""
    yield from _not_absolute("spool.path", settings.spool.path)


def target_is_one_of_three(settings: Settings) -> Iterator[Mistake]:
    """`upload.target` is a bucket with a prefix, a directory outside the spool, or nothing."""
    target = settings.upload.target
    cause = hint = ""
    if target.startswith("s3://"):
        bucket, *parts = target.removeprefix("s3://").split("/")
        if not _is_bucket(bucket):
            cause = "has no possible bucket name"
            hint = "buckets have 3 to 63 lower-case letters, digits, dots and hyphens"
        elif not _is_prefix(parts):
            cause = "has a prefix that can't be part of every key"
            hint = "write s3://bucket/prefix without a slash at the end; prefixes have letters, digits and !_.*'()-"
    elif target.startswith("file://"):
        directory = _file_path(target)
        if directory is None:
            cause, hint = "names no directory", "write file:///absolute/path"
        elif directory.is_relative_to(settings.spool.path):
            cause, hint = "lies inside spool.path", "uploads need a place of their own, such as a NAS or a USB disk"
    elif target:
        cause = "is no place recordings can go to"
        hint = 'write "s3://bucket/prefix", "file:///path", or "" to keep them in the spool'
    if hint:
        yield Mistake("upload.target", f"{shown('upload.target', target)} {cause}", hint)


def store_is_reached_safely(settings: Settings) -> Iterator[Mistake]:
    """`upload.endpoint_url` and `region` describe the store of an s3:// target, over TLS."""
    upload = settings.upload
    for key, value in (("endpoint_url", upload.endpoint_url), ("region", upload.region)):
        if value and not upload.target.startswith("s3://"):
            yield Mistake(
                f"upload.{key}",
                "says where a bucket is, yet upload.target names none",
                'set upload.target = "s3://bucket/prefix", or remove it',
            )
    if upload.region and not re.fullmatch(r"[a-z0-9-]{1,63}", upload.region):
        yield Mistake(
            "upload.region", f"{shown('upload.region', upload.region)} is no region", 'write it such as "eu-west-1"'
        )
    if upload.endpoint_url:
        yield from _endpoint(upload.endpoint_url)


def _endpoint(url: str) -> Iterator[Mistake]:
    key, parts = "upload.endpoint_url", _address(url)
    if parts is None or parts.scheme not in ("http", "https"):
        yield Mistake(key, f"{shown(key, url)} is no address of a store", 'write it such as "https://s3.example.org"')
    elif parts.username is not None or parts.query or parts.fragment:
        yield Mistake(
            key,
            f"{shown(key, url)} carries more than an address",
            "credentials come from the environment or ~/.aws, never from here",
        )
    elif parts.scheme == "http" and not _is_loopback(parts.hostname):
        yield Mistake(
            key,
            f"{shown(key, url)} would send recordings unencrypted",
            "use https://; http:// is for this machine only",
        )


def broker_is_reached_safely(settings: Settings) -> Iterator[Mistake]:
    """`mqtt.url` is a broker's address without secrets, over TLS unless it's on this machine."""
    key, url = "mqtt.url", settings.mqtt.url
    if not url:
        return
    parts = _address(url)
    if parts is None or parts.scheme not in ("mqtt", "mqtts") or parts.path not in ("", "/"):
        yield Mistake(key, f"{shown(key, url)} is no address of a broker", 'write it such as "mqtts://broker:8883"')
    elif parts.username is not None or parts.query or parts.fragment:
        yield Mistake(
            key,
            f"{shown(key, url)} carries more than an address",
            "put the name into mqtt.username and the password into the file mqtt.password_file names",
        )
    elif parts.scheme == "mqtt" and not _is_loopback(parts.hostname):
        yield Mistake(
            key,
            f"{shown(key, url)} would speak unencrypted",
            "use mqtts:// (port 8883); mqtt:// is for a broker on this machine only",
        )


def broker_keys_belong_together(settings: Settings) -> Iterator[Mistake]:
    """What goes with another key, or with a broker at all, doesn't stand alone."""
    mqtt = settings.mqtt
    files = {"ca": mqtt.ca, "certificate": mqtt.certificate, "key": mqtt.key, "password_file": mqtt.password_file}
    given = [name for name, value in {**files, "username": mqtt.username}.items() if value]
    if given and not mqtt.url:
        yield Mistake(f"mqtt.{given[0]}", "is set, yet mqtt.url names no broker", "set mqtt.url, or remove it")
        return
    if mqtt.url.startswith("mqtt://"):
        for name in ("ca", "certificate", "key"):
            if name in given:
                yield Mistake(f"mqtt.{name}", "does nothing on an mqtt:// address", "use mqtts://, or remove it")
    for one, other in (("certificate", "key"), ("username", "password_file")):
        for present, absent in ((one, other), (other, one)):
            if present in given and absent not in given:
                yield Mistake(f"mqtt.{present}", f"is set without mqtt.{absent}", f"set mqtt.{absent} as well")


def broker_files_are_absolute(settings: Settings) -> Iterator[Mistake]:
    """Files are found wherever a process was started."""
    mqtt = settings.mqtt
    for name in ("ca", "certificate", "key", "password_file"):
        path = getattr(mqtt, name)
        if path is not None:
            yield from _not_absolute(f"mqtt.{name}", path)


def custody_key_is_absolute(settings: Settings) -> Iterator[Mistake]:
    """As the broker's files."""
    if settings.custody.key is not None:
        yield from _not_absolute("custody.key", settings.custody.key)


def discovery_prefix_is_a_topic(settings: Settings) -> Iterator[Mistake]:
    """One that may be published to: no wildcards, and nothing of ours."""
    prefix = settings.mqtt.discovery_prefix
    if prefix and (not _TOPIC.fullmatch(prefix) or f"{prefix}/".startswith("kiosk/")):
        yield Mistake(
            "mqtt.discovery_prefix",
            f"{shown('mqtt.discovery_prefix', prefix)} is no topic that Home Assistant would look at",
            'write "homeassistant", or what its MQTT integration calls the discovery prefix',
        )


def metrics_go_where_they_are_looked_for(settings: Settings) -> Iterator[Mistake]:
    """node_exporter reads what ends in ".prom"."""
    path = settings.export.textfile
    if path is None:
        return
    yield from _not_absolute("export.textfile", path)
    if path.suffix != ".prom":
        yield Mistake(
            "export.textfile",
            f"{shown('export.textfile', str(path))} would not be read by node_exporter",
            'end it in ".prom", in the directory that --collector.textfile.directory names',
        )
    elif path.is_relative_to(settings.spool.path):
        yield Mistake("export.textfile", "lies inside spool.path", "choose a directory in memory, such as below /run")


def secrets_are_private(settings: Settings) -> Iterator[Mistake]:
    """Files with secrets are for their owner alone. One that is missing or out of sight is for its user to miss."""
    mqtt = settings.mqtt
    secrets = {"mqtt.password_file": mqtt.password_file, "mqtt.key": mqtt.key, "custody.key": settings.custody.key}
    for key, path in secrets.items():
        try:
            mode = path.stat().st_mode if path else 0
        except (OSError, ValueError):
            continue
        if stat.S_IMODE(mode) & 0o077:
            yield Mistake(key, f"{path} may be read by others than its owner", f"chmod 600 {path}")


def _not_absolute(key: str, path: Path) -> Iterator[Mistake]:
    if not path.is_absolute() or not str(path).isprintable():
        yield Mistake(key, f"{shown(key, str(path))} is no absolute path", "write the path from / on")


def _address(text: str) -> SplitResult | None:
    """`text` as scheme, host and port; None when it has no usable host or an impossible port."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    return parts if port != 0 and (_HOST.fullmatch(host) or _is_ip(host)) else None


def _is_loopback(host: str | None) -> bool:
    """Whether what is sent to `host` never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _is_bucket(name: str) -> bool:
    """Whether S3 allows a bucket of this name."""
    return _BUCKET.fullmatch(name) is not None and not _is_ip(name)


def _is_prefix(parts: Sequence[str]) -> bool:
    """Whether keys may begin with `parts`, joined by slashes. None at all is a prefix too."""
    return all(_PREFIX_PART.fullmatch(part) and part not in {".", ".."} for part in parts)


def _file_path(url: str) -> Path | None:
    """The directory of a file:// URL; None unless it's an absolute path written plainly."""
    path = url.removeprefix("file://")
    if not path.startswith("/") or path.startswith("//") or not path.isprintable() or set(path) & set("%?#"):
        return None
    return Path(path) if path.strip("/") and ".." not in Path(path).parts else None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
