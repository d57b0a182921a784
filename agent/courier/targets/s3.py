"""Objects in a bucket: AWS S3 or any store that speaks its protocol. The only importer of boto3's core on a kiosk.

One `PutObject` a recording. The SHA-256 from the ledger travels as a signed header and the store checks the body
against it, so the body itself isn't hashed a second time for the signature. `If-None-Match: *` keeps an object that is
there from being written again; keys carry the content's hash, so what is there is this very recording.

A store that refuses the machine's clock says what time it is; requests are signed by that from then on.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import Loader
from botocore.session import Session

from agent.contract.secret_files import others_may_read
from agent.courier.role_alias import UNREACHABLE
from agent.courier.targets import (
    ClockRefused,
    Deed,
    DigestRefused,
    NeedsPerson,
    Outgoing,
    Receipt,
    TargetError,
    Unreachable,
)
from agent.courier.targets.signing import NEWS, sign_ahead
from agent.units import NS_PER_S

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from agent.courier.pace import Pace

log = logging.getLogger(__name__)

_REFUSALS = (401, 403)
_DIGEST_CODES = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
_CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_PASSING_CODES = frozenset(
    {"RequestTimeout", "IncompleteBody", "SlowDown", "Throttling", "ThrottlingException", "OperationAborted"}
)
_TYPES = {"flac": "audio/flac", "json": "application/json"}
_PASSING_STATUSES = frozenset({408, 409, 425, 429})
_FULL = 507

_SILENCE_S = 25
"""How long an answer is waited for, once everything is sent."""
_STANDSTILL_S = 10
"""How long a connection may take to come about, and then each block of the body to leave."""
_SHORT_QUEUE = (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 64 * 1024)
"""So much waits in the kernel unsent. Without it the whole recording would, and a slow line look like a dead one."""

_KEY_WRITTEN = b"aws_secret_access_key"
_CONFIG_HINT = "correct `[upload]`, or the AWS configuration of the courier's user"
_CREDENTIALS_HINT = (
    "look at the credentials that the courier's user has: boto3's own chain, such as AWS_PROFILE in its environment"
)
_HINTS = {
    "NoSuchBucket": "make the bucket, or correct `upload.target`; the kiosk never makes one itself",
    "AccessDenied": "let these credentials PutObject below the device's own prefix",
    "PermanentRedirect": "the bucket is in another region: set `upload.region` and `upload.endpoint_url`",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set `upload.region`",
    "InvalidBucketName": "correct the bucket's name in `upload.target`",
}


class S3Target:
    """One bucket and prefix."""

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint_url: str = "", region: str = "", connections: int = 1
    ) -> None:
        """Connects to nothing yet. `connections` is how many uploads run at once."""
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._endpoint_url = endpoint_url
        self._region = region
        self._connections = connections
        self._conditional = True
        self._behind = timedelta()
        self._lock = threading.Lock()
        self._shared: S3Client | None = None
        self._loader = Loader()
        """Descriptions of S3 and its endpoints, 20 MiB once they are read: one for all clients that will ever be."""

    @property
    def prefix(self) -> str:
        return self._prefix

    def put(self, outgoing: Outgoing, pace: Pace) -> Receipt:
        digest = base64.b64encode(bytes.fromhex(outgoing.sha256)).decode()
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if self._conditional else {}
        with pace.open(outgoing.path) as body:
            try:
                with _expiry_told():
                    answer = self._client().put_object(
                        Bucket=self._bucket,
                        Key=outgoing.key,
                        Body=body,
                        ChecksumSHA256=digest,
                        ContentType=_TYPES.get(outgoing.key.rpartition(".")[2], "application/octet-stream"),
                        Metadata=dict(outgoing.metadata),
                        **condition,
                    )
            except (BotoCoreError, ClientError) as error:
                if body.failure is not None:
                    raise body.failure from error
                status = _status(error)
                if status == 412:
                    return Receipt("already_there")
                if status == 501 and condition:
                    self._conditional = False
                    return self.put(outgoing, pace)
                if _code(error) in _CLOCK_CODES and self._learn_time(error):
                    return self.put(outgoing, pace)
                self._refuse(error, outgoing.key)
        if answer.get("ChecksumSHA256") != digest:
            self._compare_md5(outgoing, answer.get("ETag", ""))
        return Receipt("stored")

    def server_time(self) -> int | None:
        try:
            with _expiry_told():
                answer: Mapping[str, Any] = self._client().head_bucket(Bucket=self._bucket)
        except ClientError as error:
            # Whoever refuses says what time it is, too.
            answer = error.response
        except BotoCoreError as error:
            self._refuse(error, "")
        date = _date(answer)
        return None if date is None else int(date.timestamp() * NS_PER_S)

    def allows(self, deed: Deed, key: str) -> bool:
        client = self._client()
        attempt = getattr(client, f"{deed}_object")
        try:
            with _expiry_told():
                answer: Mapping[str, Any] = attempt(Bucket=self._bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            if _status(error) in _REFUSALS and _code(error) not in _CLOCK_CODES:
                return False
            self._refuse(error, key, deed)
        if (body := answer.get("Body")) is not None:
            body.close()
        return True

    def describe(self) -> str:
        place = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        return f"{place} at {self._endpoint_url}" if self._endpoint_url else place

    def close(self) -> None:
        with self._lock:
            if self._shared is not None:
                self._shared.close()
            self._shared = None

    def _client(self) -> S3Client:
        """The client of all threads. Built anew after a refusal, because boto3 reads credentials only then."""
        with self._lock:
            if self._shared is None:
                self._shared = self._connect()
            return self._shared

    def _connect(self) -> S3Client:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=_STANDSTILL_S,
            read_timeout=_SILENCE_S,
            max_pool_connections=self._connections,
            tcp_keepalive=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "payload_signing_enabled": False,
                # Few stores but AWS have a host name for every bucket.
                "addressing_style": "path" if self._endpoint_url else "auto",
            },
        )
        # A client is a cycle of megabytes: without this the old one would still be there when the new one comes.
        gc.collect()
        # A session of our own: the default one would keep credentials that were read before.
        session = Session()
        session.register_component("data_loader", self._loader)
        _refuse_shared_keys(session)
        try:
            created = session.create_client(
                "s3", region_name=self._region or None, endpoint_url=self._endpoint_url or None, config=config
            )
        except CredentialRetrievalError as error:
            kind, cause, hint = _sorted(error)
            raise kind("use store", place=self.describe(), cause=cause, hint=hint, retryable=True) from error
        except (BotoCoreError, ValueError) as error:
            raise NeedsPerson(
                "use store",
                place=self.describe(),
                cause=str(error),
                hint="correct `upload.endpoint_url` and `upload.region`, or the AWS configuration of this user",
            ) from error
        client = cast("S3Client", created)
        sign_ahead(client, self._behind)
        client.meta.events.register("before-call.s3.HeadBucket", _follow_nobody)
        # botocore lets nobody choose options for its sockets; this is the list that its pools make them with.
        client._endpoint.http_session._socket_options.append(_SHORT_QUEUE)  # type: ignore[attr-defined]  # noqa: SLF001
        return client

    def _learn_time(self, error: BotoCoreError | ClientError) -> bool:
        """Sign by the store's clock from now on; False when that is what it refused, or it doesn't tell the time."""
        date = _date(error.response) if isinstance(error, ClientError) else None
        if date is None:
            return False
        with self._lock:
            behind = date - datetime.now(UTC)
            if abs(behind - self._behind) < NEWS:
                return False
            self._behind = behind
            if self._shared is not None:
                sign_ahead(self._shared, behind)
        log.warning("requests are signed by the store's clock, %s: this machine's is refused", f"{date:%Y-%m-%d %H:%M}")
        return True

    def _compare_md5(self, outgoing: Outgoing, etag: str) -> None:
        """Verify with a store that doesn't know SHA-256 checksums: its ETag is the MD5 of what it received."""
        content = outgoing.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != outgoing.sha256:
            raise DigestRefused("verify upload", place=self._place(outgoing.key), cause="the file has changed")
        if etag.strip('"') != hashlib.md5(content, usedforsecurity=False).hexdigest():
            raise NeedsPerson(
                "verify upload",
                place=self._place(outgoing.key),
                cause="the store took the object but confirmed neither its SHA-256 nor its MD5",
                hint="use a store that checks `x-amz-checksum-sha256`; until then nothing is deleted here",
            )

    def _place(self, key: str) -> str:
        place = f"s3://{self._bucket}/{key}"
        return f"{place} at {self._endpoint_url}" if self._endpoint_url else place

    def _refuse(self, error: BotoCoreError | ClientError, key: str, operation: str = "upload to") -> NoReturn:
        kind, cause, hint = _sorted(error)
        _forget_frames(error)
        if kind is NeedsPerson:
            with self._lock:
                self._shared = None
            # Whoever keeps the refusal, to tell it, must not keep the client by the frames in which it happened.
            error.with_traceback(None)
        raise kind(operation, place=self._place(key), cause=cause, hint=hint, retryable=True) from error


@contextlib.contextmanager
def _expiry_told() -> Iterator[None]:
    """botocore knows no exception of its own for a credential helper that hands out what has expired."""
    try:
        yield
    except RuntimeError as error:
        if "credentials are still expired" not in str(error):
            raise
        raise CredentialRetrievalError(provider="the credential helper", error_msg=str(error)) from error


def _follow_nobody(params: dict[str, Any], **_: object) -> None:
    """Told where else to ask, botocore asks HeadBucket for the region; told that again, it would ask for ever."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _forget_frames(error: BaseException) -> None:
    """Errors are kept as long as the trouble lasts, and the frames they came through would keep a client each."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def _sorted(error: BotoCoreError | ClientError) -> tuple[type[TargetError], str, str]:
    """Which kind of refusal this is, what was answered, and the way out."""
    if isinstance(error, ClientError):
        return _answer_sorted(error)
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return NeedsPerson, str(error), "check this machine's clock and who signed the store's certificate"
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return Unreachable, str(error), "check the network and `upload.endpoint_url`"
    if isinstance(error, CredentialRetrievalError) and UNREACHABLE in str(error):
        return Unreachable, str(error), "check the network, and `credential_process` of the courier's user"
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return NeedsPerson, str(error), _CREDENTIALS_HINT
    return NeedsPerson, str(error), _CONFIG_HINT


def _refuse_shared_keys(session: Session) -> None:
    """Raises NeedsPerson when others may read a key that botocore would take from a file of AWS's."""
    for variable in ("credentials_file", "config_file"):
        file = Path(session.get_config_variable(variable)).expanduser()
        try:
            shared = file.is_file() and _KEY_WRITTEN in file.read_bytes() and others_may_read(file)
        except OSError:
            # Out of sight: botocore can't read it either.
            continue
        if shared:
            raise NeedsPerson(
                "use store", place=str(file), cause="others may read it", hint=f"chmod 600 {file}", retryable=True
            )


def _answer_sorted(error: ClientError) -> tuple[type[TargetError], str, str]:
    code = _code(error)
    message = error.response.get("Error", {}).get("Message", "")
    status = _status(error)
    cause = f"{status} {code}: {message}" if message else f"{status} {code}"
    if code in _DIGEST_CODES:
        return DigestRefused, cause, "the file is checked now, then it is tried again or set aside"
    if code in _CLOCK_CODES:
        date = _date(error.response)
        cause += f" (the store's clock says {date:%Y-%m-%d %H:%M:%S} UTC)" if date else ""
        return ClockRefused, cause, "set this machine's clock, or let it reach a time server"
    if code in _PASSING_CODES or status in _PASSING_STATUSES or (500 <= status != _FULL):
        return Unreachable, cause, "the store is busy or broken; that should pass"
    return NeedsPerson, cause, _HINTS.get(code, _CREDENTIALS_HINT if status in (400, 401, 403) else _CONFIG_HINT)


def _code(error: BotoCoreError | ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


def _status(error: BotoCoreError | ClientError) -> int:
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _date(answer: Mapping[str, Any]) -> datetime | None:
    """The time in the `Date` header of an answer, whatever it answered."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    with contextlib.suppress(ValueError):
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    return None
