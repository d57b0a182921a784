"""Looking in a service's stead: as the user that will have to do it, where the check itself is root.

Root reads every password file and opens every microphone. What it finds says nothing of what the services can do.
"""

from __future__ import annotations

import os
import pickle
import pwd
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from agent.checkup.finding import Finding
from agent.checkup.visit import Visit
from agent.errors import KioskError

Look = Callable[[Visit], list[Finding]]

_LEFT: Final = ("sample", "bytes_per_hour", "store_ahead_s")
"""What an area leaves in a visit for the next."""


def in_stead_of(user: str, look: Look, visit: Visit) -> list[Finding]:
    """What `look` finds as `user`, if there is one and this is root; else as who we are.

    Call it while there is but one thread. Raises KioskError when the one in whose stead it looks doesn't answer.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return look(visit)
    if os.geteuid() != 0 or account.pw_uid == 0:
        return look(visit)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(account, look, visit, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGTERM)
        raise
    finally:
        os.waitpid(child, 0)
    answer = pickle.loads(told) if told else "nothing was said"  # noqa: S301 (by our own child)
    if isinstance(answer, str):
        raise KioskError("check", place=f"as {user}", cause=answer, hint="this is a fault of the program: report it")
    findings, left = answer
    for name, value in left.items():
        setattr(visit, name, value)
    return list(findings)


def _answer(account: pwd.struct_passwd, look: Look, visit: Visit, writing: int) -> NoReturn:
    """In the child: look, answer, end. Nothing of the parent's may go on twice."""
    with suppress(BaseException):
        try:
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            os.environ["HOME"] = account.pw_dir
            findings = look(visit)
            answer = pickle.dumps((findings, {name: getattr(visit, name) for name in _LEFT}))
        except Exception as error:  # noqa: BLE001 (told by the parent)
            answer = pickle.dumps(f"{type(error).__name__}: {error}")
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    os._exit(0)
