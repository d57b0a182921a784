"""Every enrolled device of a store, one after another: what the command `verify` does."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError
from agent.terminal import complain, counted, say_json_list
from fleet import account
from fleet.heads import Heads, read
from fleet.progress import Progress
from fleet.store import Store
from fleet.verifying import How, enrolments, strangers, verify

_WRITTEN: Final = "`kiosk-fleet heads` writes such files"


class Audit:
    """What is to be looked at."""

    def __init__(self, store: Store, enrolled: Iterable[Path], heads: Iterable[Path], device: str = "") -> None:
        """Raises KioskError for files that can't be read and for a device that isn't enrolled."""
        self._store = store
        self._known = enrolments(enrolled)
        self._chosen = dict(self._known)
        self._everybody = not device
        if device:
            site, _, name = device.partition("/")
            if (site, name) not in self._known:
                raise KioskError(
                    "verify",
                    place=device,
                    cause="it isn't enrolled",
                    hint="write SITE/DEVICE, and give its --enrolment",
                )
            self._chosen = {(site, name): self._known[site, name]}
        self._heads = heads

    def run(self, how: How, *, as_json: bool) -> int:
        """Look at all of it and tell. The exit status. Raises KioskError when the store can't be read."""
        documents = []
        good = True
        with closing(Heads()) as heads:
            self._learn(heads)
            for (site, device), keys in sorted(self._chosen.items()):
                with Progress(f"{site}/{device}") as progress:
                    result = verify(self._store, site, device, keys, heads, how, progress.at)
                with closing(result.evidence):
                    good = good and result.good
                    if as_json:
                        documents.append(account.document(result))
                    else:
                        account.show(result)
        if as_json:
            say_json_list(documents)
        unknown = strangers(self._store, self._known) if self._everybody else []
        for name in unknown:
            complain(f"not looked at: {name} is in the store and not enrolled\n  → give its --enrolment")
        return EXIT_GOOD if good and not unknown else EXIT_FOUND_WRONG

    def _learn(self, heads: Heads) -> None:
        for path in self._heads:
            good = bad = 0
            try:
                with path.open(errors="replace") as lines:
                    for seen in read(lines):
                        if seen is None:
                            bad += 1
                        else:
                            good += 1
                            heads.add(seen, self._known.get((seen.site, seen.device), ()))
            except OSError as error:
                raise KioskError("read heads", place=str(path), cause=str(error), hint=_WRITTEN) from error
            if bad and not good:
                raise KioskError("read heads", place=str(path), cause="there is no head in it", hint=_WRITTEN)
            if bad:
                complain(f"{path}: {counted(bad, 'line')} can't be read and don't count\n  → {_WRITTEN}")
        if heads.unsigned:
            complain(f"{counted(heads.unsigned, 'head')} without a signature: they don't count")
