"""Keys that recordings are encrypted to, made for one test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyrage


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Somebody who may hear recordings."""

    secret: Path
    public: str


def age_key(directory: Path, name: str = "key") -> KeyPair:
    """As `age-keygen` makes it."""
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    secret = directory / f"{name}.txt"
    secret.write_text(f"# public key: {public}\n{identity}\n")
    secret.chmod(0o600)
    return KeyPair(secret, public)


def ssh_key(directory: Path, name: str = "id_ed25519", *, kind: str = "ed25519", passphrase: str = "") -> KeyPair:
    """As `ssh-keygen` makes it."""
    secret = directory / name
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "somebody@clinic", "-f", str(secret)]
    subprocess.run(command, check=True)
    return KeyPair(secret, secret.with_name(f"{name}.pub").read_text().strip())
