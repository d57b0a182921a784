"""`python -m agent.recorder --settings-fd N`: the recorder, with settings that were validated before."""

from __future__ import annotations

import argparse
import logging
import sys

from agent.errors import EXIT_UNUSABLE, KioskError
from agent.handover import take_over
from agent.log import log_to_stderr
from agent.recorder.service import RecorderService
from hw.clock import SystemClock


def main() -> int:
    """Run the recorder until it is told to stop."""
    parser = argparse.ArgumentParser(prog="agent.recorder")
    parser.add_argument("--settings-fd", type=int, required=True)
    settings = take_over(parser.parse_args().settings_fd)
    log_to_stderr(settings.log.level)
    try:
        return RecorderService(settings, SystemClock()).run()
    except KioskError as error:
        logging.getLogger("agent.recorder").error("%s", error)  # noqa: TRY400 (it says all a person needs)
        return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
