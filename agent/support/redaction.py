"""No secret leaves in a bundle, wherever it got into what is collected.

Two nets: every value that this kiosk is known to hold as a secret is looked for by itself, and what looks like a
secret is taken out by its form. The first knows what a password is, the second finds what nobody told it of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

MASK: Final = "***"

_SHORTEST: Final = 4
"""What is shorter stands in too many other words to be taken out everywhere."""

_SECRET_NAME: Final = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(^|_)KEY(_|$)", re.IGNORECASE)
_NO_SECRET: Final = re.compile(r"(_FILE|_PATH|_PROFILE|_DIRECTORY|_URI)$", re.IGNORECASE)
"""Names of variables that say where a secret lies."""

_ASSIGNMENT: Final = re.compile(r"""^\s*([\w.-]+)\s*=\s*["']?(.*?)["']?\s*(?:\#.*)?$""", re.MULTILINE)
_FILES_OF_SECRETS: Final = ("password_file", "key")
"""Keys of `[mqtt]` and `[custody]` that name such files."""

_FORMS: Final = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]+"), MASK),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), MASK),
    (re.compile(r"(?<=://)[^\s/@\"']+@"), f"{MASK}@"),
    (
        re.compile(
            r"(?i)([\w.-]*(?:secret|password|passwd|passphrase|token)(?:[_-]?access)?(?:[_-]?key)?[\"']?\s*[=:]\s*[\"']?)"
            r"(?![{\[\"'\s])[^\s\"',;&]+"
        ),
        rf"\1{MASK}",
    ),
)

_MOST_BYTES: Final = 64 * 1024


def secrets_of(configuration: str, *environments: Mapping[str, str]) -> set[str]:
    """Every value known to be a secret here: what the configuration's text, variables and the files they name hold.

    The text may be broken: such a kiosk's secrets are no others.
    """
    found = {value for environment in environments for value in _in_environment(environment)}
    for name, value in _ASSIGNMENT.findall(configuration):
        if name in _FILES_OF_SECRETS:
            file = Path(value)
            # Or else the secret itself, by mistake.
            found.update(_lines(file) if file.is_absolute() else [value])
        elif is_secret(name):
            found.add(value)
        found.update(_in_url(value))
    return {value for value in found if len(value) >= _SHORTEST}


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without them, and without what looks like one."""
    # The longest first: one may be part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for form, mask in _FORMS:
        text = form.sub(mask, text)
    return text


def is_secret(variable: str) -> bool:
    """Whether a variable of that name holds one."""
    return bool(_SECRET_NAME.search(variable)) and not _NO_SECRET.search(variable)


def _in_environment(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if is_secret(name):
            yield value
        elif name.endswith("_FILE"):
            yield from _assigned(Path(value))
        yield from _in_url(value)


def _lines(file: Path) -> Iterator[str]:
    """Each line of a small file of secrets; nothing where it can't be read, for then it can't get out."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return
        yield from (line.strip() for line in file.read_text(errors="replace").splitlines() if "-----" not in line)
    except OSError:
        return


def _assigned(file: Path) -> Iterator[str]:
    """The secrets of an INI file such as AWS's."""
    for line in _lines(file):
        name, _, value = line.partition("=")
        if is_secret(name.strip()):
            yield value.strip()


def _in_url(text: str) -> Iterator[str]:
    try:
        parts = urlsplit(text)
    except ValueError:
        return
    user, at, _ = parts.netloc.rpartition("@")
    if at:
        for part in (user, *user.split(":", 1)[1:]):
            yield part
            yield unquote(part)
    yield from (value for _, value in parse_qsl(parts.query))
