"""Requests signed with the store's time instead of the machine's.

Stores refuse a signature that is a quarter of an hour off. A kiosk whose clock nobody sets would keep its recordings
for ever, so the store's own word about the time goes into the signature. boto3 has no place for that; its signer takes
the time at the very last moment.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

NEWS = timedelta(minutes=1)
"""Two looks at the same clock differ by less: answers give whole seconds, and take a while to come."""

_behind: MutableMapping[Config, timedelta] = WeakKeyDictionary()
"""How far the machine's clock is behind the store's, by the configuration of the client that talks to it."""


def sign_ahead(client: S3Client, behind: timedelta) -> None:
    """Sign what `client` sends from now on as if the machine's clock, which is `behind`, were right."""
    _behind[client.meta.config] = behind


class _Signer(S3SigV4Auth):
    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        behind = _behind.get(request.context["client_config"], timedelta())
        stamp = datetime.strptime(request.context["timestamp"], SIGV4_TIMESTAMP).replace(tzinfo=UTC) + behind
        request.context["timestamp"] = stamp.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # the stubs leave it out


AUTH_TYPE_MAPS["s3v4"] = _Signer
