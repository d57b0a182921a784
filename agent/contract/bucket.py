"""What lies in a bucket, for whoever may read it: a kiosk never does. With the kiosk's target, all that knows boto3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from agent.errors import KioskError
from agent.units import NS_PER_S

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"
CONNECTIONS: Final = 16
_READING: Final = "look at --endpoint-url and at the credentials: a kiosk's lack s3:ListBucket and s3:GetObject"
_OPENING: Final = "look at --endpoint-url and --region, and at the AWS configuration of this user"


class Missing(KioskError):
    """There is no such object."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object, as listed."""

    key: str
    size: int
    stored_ns: int
    """When it came there, by the store's clock."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object, whole, and what is said about it there (`kr-…`)."""

    content: bytes
    metadata: Mapping[str, str]


class Bucket:
    """The bucket of an address `s3://bucket/…`. Credentials come by boto3's own chain. Raises KioskError.

    May be used from several threads, once `client` has been.
    """

    def __init__(self, url: str, endpoint_url: str = "", region: str = "") -> None:
        """Connects to nothing yet."""
        self.name, _, self.below = url.removeprefix(SCHEME).partition("/")
        self._endpoint_url = endpoint_url
        self._region = region
        self._client: S3Client | None = None

    def objects(self, prefix: str) -> Iterator[Found]:
        """Everything below `prefix`, in the order of its keys, a page at a time."""
        with self.told(prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield Found(each["Key"], each["Size"], round(each["LastModified"].timestamp() * NS_PER_S))

    def fetch(self, key: str) -> Fetched:
        """One object."""
        with self.told(key):
            answer = self.client.get_object(Bucket=self.name, Key=key)
            return Fetched(answer["Body"].read(), answer["Metadata"])

    def place(self, key: str) -> str:
        """Where an object is, for a person."""
        return f"{SCHEME}{self.name}/{key}"

    @property
    def client(self) -> S3Client:
        """boto3's own, for what isn't here; within `told`. Raises KioskError for what can't be an address."""
        if self._client is None:
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
            from botocore.session import Session

            config = Config(
                retries={"mode": "standard", "total_max_attempts": 5},
                connect_timeout=5,
                max_pool_connections=CONNECTIONS,
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if self._endpoint_url else "auto"},
            )
            try:
                created = Session().create_client(
                    "s3", region_name=self._region or None, endpoint_url=self._endpoint_url or None, config=config
                )
            except (BotoCoreError, ValueError) as error:
                raise KioskError("open store", place=self.place(""), cause=str(error), hint=_OPENING) from error
            self._client = cast("S3Client", created)
        return self._client

    @contextmanager
    def told(self, key: str, operation: str = "read store", hint: str = _READING) -> Iterator[None]:
        """Tell of boto3's errors in the block as KioskErrors about `key`; Missing when there is no such object."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
            kind = Missing if code in ("NoSuchKey", "404") else KioskError
            raise kind(operation, place=self.place(key), cause=str(error), hint=hint) from error
