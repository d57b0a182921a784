"""Credentials for an hour, in exchange for the kiosk's certificate: AWS IoT's credentials provider.

botocore runs this as the `credential_process` of the courier's AWS configuration (`fleet/access/aws-config`) and runs
it again before what it got expires. So a kiosk keeps no key of AWS's, and a stolen one is shut out by its certificate.

    python -m agent.courier.role_alias --endpoint HOST --role-alias NAME --thing ID --certificate FILE --key FILE

Ends with 0 and JSON on standard output as botocore wants it, or with 1 and one line on standard error.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from agent.contract.secret_files import others_may_read

UNREACHABLE: Final = "the credentials provider can't be reached"
"""How the complaint begins when there is no network, which passes, rather than a refusal, which needs a person."""

_PATIENCE_S: Final = 10.0
_LONGEST_ANSWER_BYTES: Final = 64 * 1024
_NAMES: Final = {
    "AccessKeyId": "accessKeyId",
    "SecretAccessKey": "secretAccessKey",
    "SessionToken": "sessionToken",
    "Expiration": "expiration",
}
"""botocore's name for each thing in the provider's answer."""


class _Trouble(Exception):
    """Why there are no credentials."""


def main() -> int:
    """Print credentials; the exit status."""
    options = _parser().parse_args()
    try:
        print(json.dumps(_understood(*_ask(options))))  # noqa: T201 (that is what botocore reads)
    except _Trouble as trouble:
        print(trouble, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent.courier.role_alias", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--endpoint", required=True, help="HOST or HOST:PORT, from `aws iot describe-endpoint`")
    parser.add_argument("--role-alias", required=True, help="the role alias that names the kiosks' role")
    parser.add_argument("--thing", required=True, help="the thing's name, which is the device id")
    parser.add_argument("--certificate", required=True, metavar="FILE", help="the kiosk's, in PEM")
    parser.add_argument("--key", required=True, metavar="FILE", help="its private key, in PEM")
    parser.add_argument("--ca", metavar="FILE", help="who vouches for the endpoint, if not this system's authorities")
    return parser


def _ask(options: argparse.Namespace) -> tuple[int, bytes]:
    """The provider's status and answer. Raises _Trouble."""
    try:
        if others_may_read(Path(options.key)):
            raise _Trouble(f"{options.key} may be read by others than its owner: chmod 600 {options.key}")
        context = ssl.create_default_context(cafile=options.ca)
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise _Trouble(f"certificate, key or authority can't be used: {error}") from error
    connection = http.client.HTTPSConnection(options.endpoint, timeout=_PATIENCE_S, context=context)
    try:
        path = f"/role-aliases/{quote(options.role_alias, safe='')}/credentials"
        connection.request("GET", path, headers={"x-amzn-iot-thingname": options.thing})
        answer = connection.getresponse()
        return answer.status, answer.read(_LONGEST_ANSWER_BYTES)
    except ssl.SSLError as error:
        raise _Trouble(f"{options.endpoint} and this kiosk don't trust each other: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Trouble(f"{UNREACHABLE}: {options.endpoint}: {error}") from error
    finally:
        connection.close()


def _understood(status: int, answer: bytes) -> dict[str, Any]:
    """The answer in botocore's words. Raises _Trouble."""
    if status >= 500 or status == 429:
        raise _Trouble(f"{UNREACHABLE}: it answers {status}")
    if status != 200:
        said = ascii(answer[:200].decode(errors="replace"))
        raise _Trouble(f"the credentials provider refuses this kiosk: {status} {said}")
    try:
        found = json.loads(answer)["credentials"]
        named = {ours: found[theirs] for ours, theirs in _NAMES.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _Trouble("the credentials provider's answer can't be understood") from error
    if not all(isinstance(each, str) for each in named.values()):
        raise _Trouble("the credentials provider's answer can't be understood")
    return {"Version": 1, **named}


if __name__ == "__main__":
    sys.exit(main())
