"""Certificates made by openssl for one test."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.ca = directory / "ca.crt"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                      "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")  # fmt: skip

    def certificate(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key; with -1 day it has expired."""
        stem = name if name.replace("-", "").isalnum() else name.encode().hex()
        subject = re.sub(r"([/+\\])", r"\\\1", name)
        (self.directory / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-subj", f"/CN={subject}", "-keyout", f"{stem}.key", "-out", f"{stem}.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{stem}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", str(days), "-extfile", "names", "-out", f"{stem}.crt")  # fmt: skip
        return self.directory / f"{stem}.crt", self.directory / f"{stem}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)
