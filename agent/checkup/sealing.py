"""Whether recordings can be opened by the holder of a key alone, and by that one really."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import soundfile

from agent.checkup.finding import Finding, of_error
from agent.contract import age
from agent.contract.commands import target_of
from agent.errors import KioskError
from agent.recorder.encryption import parsed
from agent.recorder.memory import memory_of
from agent.recorder.rotation import remembered

if TYPE_CHECKING:
    from agent.checkup.visit import Sample, Visit

_RESTART: Final = "sudo systemctl restart kiosk-recorder.service, and check again"


def recipients_of(visit: Visit) -> tuple[str, ...]:
    """Who can open what is recorded here from now on: by command, or by the file. Raises KioskError."""
    settings = visit.settings
    configured = settings.seal.recipients
    target = target_of(settings.device.site, settings.device.id)
    rotation = remembered(
        visit.layout.root,
        memory_of(visit.runtime),
        keys=settings.commands.admin_keys,
        target=target,
        configured=configured,
    )
    return configured if rotation is None else rotation.recipients


def sealed(content: bytes, recipients: tuple[str, ...]) -> bytes:
    """`content` for these alone."""
    file = io.BytesIO()
    age.encrypt(io.BytesIO(content), file, parsed(recipients))
    return file.getvalue()


def look(visit: Visit) -> Iterator[Finding]:
    """For whom recordings are sealed, and whether the key at hand opens one."""
    recipients = recipients_of(visit)
    if not recipients:
        yield Finding(
            "sealing",
            "yellow",
            "not sealed: seal.recipients is empty, and whoever takes the card, or reads the store, hears what was said",
            "write the public keys of those who may listen into `[seal] recipients`",
        )
        return
    whom = "1 recipient" if len(recipients) == 1 else f"{len(recipients)} recipients"
    otherwise = _by_the_recorder(visit, recipients, whom)
    if otherwise is not None:
        yield otherwise
        return
    # What the recorder has written is tried as well as what was made for this check.
    samples = [(each, each.sealed) for each in (visit.kept, visit.sample) if each is not None]
    findings = [_judged(sample, content, visit, whom) for sample, content in samples]
    nothing = Finding("sealing", "grey", f"for {whom}; nothing was recorded to try it on")
    yield next((each for each in findings if each.verdict != "green"), findings[-1] if findings else nothing)


def _by_the_recorder(visit: Visit, recipients: tuple[str, ...], whom: str) -> Finding | None:
    """Where the running recorder says that it encrypts for others than it should, or for nobody."""
    picture = visit.picture()
    if picture is None or set(picture.recipients) == {age.label(each) for each in recipients}:
        return None
    others = "is for others" if picture.recipients else "isn't sealed"
    return Finding("sealing", "red", f"what the recorder records now {others}, though there is {whom}", _RESTART)


def _judged(sample: Sample, content: bytes | None, visit: Visit, whom: str) -> Finding:
    if content is None:
        return Finding("sealing", "red", f"{sample.origin}, isn't sealed, though there is {whom}", _RESTART)
    if not visit.identities:
        text = f"for {whom}; not opened again, because no key is at hand (`--identity KEY`)"
        return Finding("sealing", "green", text)
    return _opened(sample, content, visit, whom)


def _opened(sample: Sample, content: bytes, visit: Visit, whom: str) -> Finding:
    names = ", ".join(path.name for path in visit.identities)
    try:
        identities = [identity for path in visit.identities for identity in age.identities(path)]
        opened = io.BytesIO()
        whole = age.decrypt(io.BytesIO(content), opened, identities)
    except KioskError as error:
        return of_error("sealing", error)
    except age.NotForUs:
        return Finding(
            "sealing",
            "red",
            f"for {whom}, and {names} isn't the key of one of them",
            "bring the key that will open the recordings, or correct `[seal] recipients`",
        )
    except age.NotEncrypted as error:
        return Finding(
            "sealing", "red", f"{sample.origin}, can't be opened: {error}", "report this: it is a fault here"
        )
    if not whole or not _sounds(opened.getvalue(), sample):
        return Finding("sealing", "red", f"{names} opens something else than was sealed", "report this: it is a fault")
    return Finding("sealing", "green", f"for {whom}; opened again with {names}")


def _sounds(opened: bytes, sample: Sample) -> bool:
    """Whether what was opened is what was recorded."""
    if sample.flac is not None:
        return opened == sample.flac
    try:
        return bool(soundfile.info(io.BytesIO(opened)).frames)
    except soundfile.LibsndfileError:
        return False
