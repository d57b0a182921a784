"""The bucket as anybody sees it: plain HTTP, nothing of what uploads to it, so that what is found there is evidence."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

from agent.errors import KioskError

_TIMEOUT_S = 5.0
_SPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the bucket lists it."""

    key: str
    bytes: int


class Bucket:
    """One bucket that may be read without keys."""

    def __init__(self, host: str, port: int, name: str) -> None:
        self.name = name
        self._address = (host, port)

    def exists(self) -> bool:
        """Whether the server answers and has this bucket."""
        with contextlib.suppress(KioskError):
            self._get({"list-type": "2", "max-keys": "1"})
            return True
        return False

    def objects(self) -> list[Stored]:
        """Everything in it, by key. Raises KioskError."""
        return list(self._pages())

    def read(self, key: str) -> bytes:
        """One object, whole. Raises KioskError."""
        return self._get({}, key)

    def _pages(self) -> Iterator[Stored]:
        query = {"list-type": "2"}
        while True:
            page = ET.fromstring(self._get(query))  # noqa: S314 (written by our own server)
            for item in page.iterfind("s3:Contents", _SPACE):
                size = item.findtext("s3:Size", "0", _SPACE)
                yield Stored(item.findtext("s3:Key", "", _SPACE), int(size))
            token = page.findtext("s3:NextContinuationToken", "", _SPACE)
            if not token:
                return
            query["continuation-token"] = token

    def _get(self, query: dict[str, str], key: str = "") -> bytes:
        path = f"/{self.name}" + (f"/{quote(key)}" if key else "") + (f"?{urlencode(query)}" if query else "")
        connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._refusal(key, str(error)) from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise self._refusal(key, f"{answer.status} {answer.reason}")
        return body

    def _refusal(self, key: str, cause: str) -> KioskError:
        return KioskError("read from bucket", place=f"s3://{self.name}/{key}", cause=cause, retryable=True)
