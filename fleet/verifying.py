"""`kiosk-fleet verify`: is this everything, and is it unaltered? Object by object, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from agent.contract.bucket import Found
from agent.contract.custody import DIRECTORY, Enrolment
from agent.contract.keys import device_prefix, recording_of
from agent.contract.names import is_name
from agent.errors import KioskError
from agent.units import NS_PER_S
from fleet.chain import Chain
from fleet.evidence import Evidence, Expected
from fleet.heads import Heads
from fleet.store import Store

Proof = Literal["attested", "read", "measured"]
"""How an object's content was compared: by the digest the store keeps, by reading it, or only by its size."""

_BATCH: Final = 512
_WORKERS: Final = 16

_MARGIN_NS: Final = 300 * NS_PER_S
"""How far the clocks of store and kiosk may be apart, and how late memory's account comes to the card's journal."""


@dataclass(frozen=True, slots=True)
class How:
    """How thoroughly to look."""

    read: bool = False
    """Read every object, whatever the store attests."""
    fast: bool = False
    """Only what the listing tells: that it is there, and its size."""


@dataclass(slots=True)
class Result:
    """What was found out of one device. `evidence` holds the rest, and is to be closed."""

    site: str
    device: str
    evidence: Evidence
    chain: Chain
    proved: Counter[Proof]
    unproven: int = 0
    """Objects that came after the last manifest, or between two ledgers: no manifest tells of them."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.evidence.counted()


@dataclass(frozen=True, slots=True)
class _Candidate:
    found: Found
    expected: Expected


def enrolments(places: Iterable[Path]) -> dict[tuple[str, str], set[str]]:
    """The keys of each device, from enrolment files or directories of them. Raises KioskError."""
    known: dict[tuple[str, str], set[str]] = {}
    for place in places:
        files = sorted(place.glob("*.json")) if place.is_dir() else [place]
        if not files:
            raise KioskError("read enrolment", place=str(place), cause="no *.json there", hint="name the files")
        for file in files:
            try:
                enrolment = Enrolment.parse(file.read_text())
            except (OSError, ValueError) as error:
                raise KioskError(
                    "read enrolment",
                    place=str(file),
                    cause=(error.strerror if isinstance(error, OSError) else None) or str(error),
                    hint="it is what `kiosk-recorder enrol` printed on that kiosk",
                ) from error
            known.setdefault((enrolment.site, enrolment.device), set()).add(enrolment.key)
    return known


def strangers(store: Store, known: Mapping[tuple[str, str], object]) -> list[str]:
    """Devices that are in the store and not enrolled, as "site/device"."""
    prefix = f"{store.prefix}/" if store.prefix else ""
    sites = filter(is_name, store.below(prefix))
    found = [(site, device) for site in sites for device in filter(is_name, store.below(f"{prefix}{site}/"))]
    return [f"{site}/{device}" for site, device in found if (site, device) not in known]


def verify(
    store: Store,
    site: str,
    device: str,
    keys: set[str],
    heads: Heads,
    how: How,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Result:
    """Look at everything of one device. Raises KioskError when the store doesn't answer."""
    evidence = Evidence()
    try:
        chain = Chain(store, site, device, keys, evidence, heads)
        chain.follow()
        result = Result(site, device, evidence, chain, Counter())
        prefix = device_prefix(store.prefix, site, device) + "/"
        if not chain.manifests:
            evidence.find("missing", f"{prefix}{DIRECTORY}/", "there is no sound manifest at all")
        total, done = evidence.stored(), 0
        objects = (found for found in store.walk(prefix) if not found.key.startswith(f"{prefix}{DIRECTORY}/"))
        with ThreadPoolExecutor(_WORKERS) as pool:
            while batch := list(islice(objects, _BATCH)):
                _look_at(batch, store, result, how, pool)
                done += len(batch)
                progress(done, total)
        evidence.miss()
    except BaseException:
        evidence.close()
        raise
    return result


def _look_at(batch: list[Found], store: Store, result: Result, how: How, pool: ThreadPoolExecutor) -> None:
    evidence = result.evidence
    candidates = list(_candidates(batch, result))
    gone = set()
    verified = []
    proofs = pool.map(lambda each: _proof(store, each, how), candidates)
    for candidate, (proof, digest) in zip(candidates, proofs, strict=True):
        key, expected = candidate.found.key, candidate.expected
        if digest == expected.sha256:
            result.proved[proof] += 1
            verified.append((expected.run, expected.seq))
        elif not digest:
            gone.add(key)
        elif (home := evidence.holding(digest)) is not None:
            evidence.find("reordered", key, f"it holds what belongs at {home}")
        else:
            evidence.find("altered", key, f"its content is another one: SHA-256 {digest}")
    evidence.verify(verified)
    evidence.see(found.key for found in batch if found.key not in gone)


def _candidates(batch: list[Found], result: Result) -> Iterator[_Candidate]:
    """Those whose content is to be compared; what is wrong with the others is found here."""
    evidence = result.evidence
    for found in batch:
        expected = evidence.expected(found.key) or _late(found, result)
        if expected is None:
            continue
        if expected.erased:
            evidence.find("erased", found.key, "it was erased on the kiosk; `kiosk-fleet erase-apply` removes it here")
        elif expected.sha256 is None or expected.bytes is None:
            result.unproven += 1
        elif found.size != expected.bytes:
            evidence.find("altered", found.key, f"it has {found.size} bytes instead of {expected.bytes}")
        else:
            yield _Candidate(found, expected)


def _late(found: Found, result: Result) -> Expected | None:
    """What an object should be whose key no manifest tells; None when that is found, or can't be known yet."""
    evidence, told = result.evidence, recording_of(found.key)
    if told is None:
        evidence.find("added", found.key, "no recording is called so")
        return None
    run, seq, digits = told
    known = evidence.named(run, seq)
    if known is not None and known.sha256 is not None and known.sha256.startswith(digits):
        if known.erased or not evidence.is_stored(run, seq):
            return known
        evidence.find("duplicated", found.key, f"recording {run}-{seq:06d} is in the store under another key")
    elif result.chain.covers(found.stored_ns, _MARGIN_NS):
        evidence.find("added", found.key, "it came while manifests tell of everything, and none tells of it")
    else:
        result.unproven += 1
    return None


def _proof(store: Store, candidate: _Candidate, how: How) -> tuple[Proof, str]:
    key = candidate.found.key
    if how.fast:
        return "measured", candidate.expected.sha256 or ""
    if not how.read and (attested := store.attested(key)) is not None:
        return "attested", attested
    return "read", store.sha256(key)
