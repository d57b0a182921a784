"""One .tar.gz of texts, the same bytes for the same texts."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping


def packed(texts: Mapping[str, str], folder: str, seconds: int) -> bytes:
    """An archive of one `folder`: files by name, of the time `seconds` since 1970, readable by their owner alone."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(texts):
            content = texts[name].encode(errors="replace")
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mtime, member.mode = len(content), seconds, 0o600
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=seconds)
