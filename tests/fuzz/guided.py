"""`python -m tests.fuzz.guided NAME [SECONDS]`: a parser of tests/fuzz/targets.py under atheris, led by coverage.

Inputs that reach something new are kept in .cache/fuzz/NAME and begun with the next time. Ends with a status other than
0, and leaves the input behind, when the parser does anything but understand or refuse.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["agent", "hw"]):
    from tests.fuzz.sound import sound
    from tests.fuzz.targets import TARGETS

CORPUS: Final = Path(__file__).parents[2] / ".cache" / "fuzz"


def main(name: str, seconds: str = "60") -> None:
    """Fuzz one target. libFuzzer ends the process."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    seed = sound(name)
    (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={corpus}-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
