"""`kiosk-fleet command`: one signed command for each kiosk, and what became of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.contract import messages
from agent.contract.commands import LONGEST_LIFE_NS, REASONS, compose
from agent.contract.messages import ROOT, Heard, Topics
from agent.contract.signed import sign
from agent.contract.verbs import VERBS, Verb
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError
from agent.terminal import complain, counted, painter, say, say_json
from agent.units import NS_PER_S, Duration, MisreadError
from fleet.broker import Line
from fleet.keyring import Key
from fleet.progress import Progress
from fleet.roster import Kiosk

_NOT_SAID: Final = {
    "offline": ("isn't connected, and a command is never kept for later", "send it again when its `status` is online"),
    "unsent": ("could not be told", "look at the broker's access list"),
    "no answer": ("said nothing in time", "if it goes on, `recorder_state` and events tell whether it obeyed"),
}
_RESULTS: Final = f"{ROOT}/+/+/cmd/result"


@dataclass(slots=True)
class Errand:
    """One command to one kiosk."""

    kiosk: Kiosk
    id: str = ""
    error: str | None = None
    """Why it wasn't obeyed; None while nobody knows, or when it was."""
    ok: bool = False
    text: str = ""
    output: Mapping[str, Any] | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be waited for. A repeat is no answer: what was repeated is still to come."""
        return self.ok or self.error not in (None, "replayed")

    @property
    def way_out(self) -> str:
        """What to do about it."""
        found = _NOT_SAID.get(self.error or "") or REASONS.get(self.error or "")
        return found[1] if found else ""


def understood(verb: str, written: Sequence[str]) -> tuple[Verb, dict[str, Any]]:
    """A verb and its arguments as a person wrote them ("minutes=10"). Raises KioskError before anything is sent."""
    known = VERBS.get(verb)
    if known is None:
        raise _mistake(verb, "no verb is called so", f"one of {', '.join(VERBS)}")
    kinds = {argument.name: argument.kind for argument in known.arguments}
    args: dict[str, Any] = {}
    for word in written:
        name, equals, value = word.partition("=")
        if not equals or name not in kinds:
            takes = ", ".join(f"{each}=…" for each in kinds) or "no arguments"
            raise _mistake(word, f"isn't an argument of `{verb}`", f"it takes {takes}")
        try:
            args[name] = kinds[name].read(value)
        except MisreadError as error:
            raise _mistake(word, error.cause, error.hint) from error
    wrong = known.wrong_with(args)
    if wrong is not None:
        raise _mistake(verb, wrong, "`kiosk-fleet command --help` lists the arguments")
    return known, args


def lifetime(written: str) -> float:
    """How long a command is to live, in seconds. Raises KioskError."""
    try:
        seconds = float(Duration.parse(written))
    except MisreadError as error:
        raise _mistake(f"--expires {written}", error.cause, error.hint) from error
    if not 0 < seconds * NS_PER_S <= LONGEST_LIFE_NS:
        raise _mistake(f"--expires {written}", "a command lives for a day at most", "write 5m, 1h, or 24h")
    return seconds


def send(
    line: Line, kiosks: Sequence[Kiosk], verb: Verb, args: Mapping[str, Any], key: Key, life_s: float
) -> list[Errand]:
    """Sign and say one command for each kiosk that is connected."""
    errands = [Errand(kiosk) for kiosk in kiosks]
    single = len(kiosks) == 1
    line.listen(Topics(kiosks[0].site, kiosks[0].device).result if single else _RESULTS)
    for errand in errands:
        site, device = errand.kiosk.site, errand.kiosk.device
        if not errand.kiosk.online:
            errand.error = "offline"
            continue
        document = compose(verb.name, args, site=site, device=device, now_ns=time.time_ns(), lifetime_s=life_s)
        errand.id = document["id"]
        try:
            payload = sign("command", document, key.seed)
            line.publish(messages.command(Topics(site, device), payload, expires_s=max(1, round(life_s))))
        except KioskError as error:
            errand.error, errand.text = "unsent", error.cause
    return errands


def wait(line: Line, errands: Sequence[Errand], seconds: float) -> None:
    """Take in answers until all are there or the time is over. Raises KioskError when the connection is lost."""
    waiting = {Topics(e.kiosk.site, e.kiosk.device).result: e for e in errands if not e.settled}
    deadline_s = time.monotonic() + seconds
    total = len(waiting)
    try:
        with Progress("answered") as progress:
            while waiting and (left_s := deadline_s - time.monotonic()) > 0:
                progress.at(total - len(waiting), total)
                heard = line.wait_for(left_s, lambda heard: heard.topic in waiting and not heard.retained)
                if heard is not None and take_in(waiting[heard.topic], heard):
                    del waiting[heard.topic]
    finally:
        for errand in waiting.values():
            errand.error = errand.error or "no answer"


def take_in(errand: Errand, heard: Heard) -> bool:
    """Whether a message settles an errand."""
    try:
        content = json.loads(heard.payload)
        if content["id"] != errand.id:
            return False
        errand.ok, errand.error = content["ok"] is True, content["error"]
        errand.text, errand.output = str(content.get("text") or ""), content.get("output")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    if not errand.ok and not isinstance(errand.error, str):
        errand.error = "failed"
    return errand.settled


def report(errands: Sequence[Errand], *, waited: bool, as_json: bool) -> int:
    """Say what became of each; the exit status."""
    if as_json:
        say_json([_document(errand) for errand in errands])
    else:
        paint = painter()
        width = max((len(str(errand.kiosk)) for errand in errands), default=0)
        for errand in errands:
            style, told = _told(errand)
            say(f"{errand.kiosk!s:{width}}  {paint(told, style)}")
            if errand.error and len(errands) == 1:
                say(f"  → {errand.way_out}")
        if len(errands) > 1:
            good = sum(errand.ok for errand in errands)
            complain(f"{good} of {counted(len(errands), 'kiosk')} obeyed")
            for reason in sorted({errand.error for errand in errands if errand.error}):
                complain(f"  {reason}\n    → {next(e for e in errands if e.error == reason).way_out}")
    fine = all(errand.ok or (errand.error is None and not waited) for errand in errands)
    return EXIT_GOOD if fine else EXIT_FOUND_WRONG


def _told(errand: Errand) -> tuple[Any, str]:
    if errand.ok:
        output = ", ".join(f"{name} {_plain(value)}" for name, value in (errand.output or {}).items())
        return "green", "; ".join(part for part in ("obeyed", output, errand.text) if part)
    if errand.error is None:
        return "yellow", "sent"
    if errand.error in _NOT_SAID:
        return "red", f"{errand.error}: it {_NOT_SAID[errand.error][0]}" + (f": {errand.text}" if errand.text else "")
    return "red", f"refused ({errand.error}): {errand.text}"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "always"
    return "none" if value is None else str(value)


def _document(errand: Errand) -> dict[str, Any]:
    return {
        "site": errand.kiosk.site,
        "device": errand.kiosk.device,
        "id": errand.id or None,
        "ok": errand.ok,
        "error": errand.error,
        "text": errand.text,
        "output": errand.output,
        "way_out": errand.way_out,
    }


def _mistake(place: str, cause: str, hint: str) -> KioskError:
    return KioskError("command", place=place, cause=cause, hint=hint)
