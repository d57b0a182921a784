"""`python -m agent.courier --settings-fd N [--once]`: the courier, with settings that were validated before."""

from __future__ import annotations

import argparse
import logging
import sys

from agent.courier.service import CourierService
from agent.courier.timepiece import ToldClock
from agent.errors import EXIT_UNUSABLE, KioskError
from agent.handover import take_over
from agent.log import log_to_stderr
from agent.status import runtime_directory

log = logging.getLogger("agent.courier")


def main() -> int:
    """Run the courier until it is told to stop, or until everything due is uploaded."""
    parser = argparse.ArgumentParser(prog="agent.courier")
    parser.add_argument("--settings-fd", type=int, required=True)
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    try:
        settings = take_over(arguments.settings_fd)
        log_to_stderr(settings.log.level)
        for library in ("boto3", "botocore", "urllib3"):
            # At "debug" they would write signatures and session tokens into the journal.
            logging.getLogger(library).setLevel(logging.WARNING)
        service = CourierService(settings, ToldClock(runtime_directory()))
        return service.once() if arguments.once else service.run()
    except KioskError as error:
        log.error("%s", error)  # noqa: TRY400 (it says all a person needs)
        return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
