#!/usr/bin/env bash
# Makes a bare Debian 12 (or Raspberry Pi OS) machine run kiosk-recorder.
set -euo pipefail

# shellcheck source=requirements/provide.sh
source "$(dirname "${BASH_SOURCE[0]}")/requirements/provide.sh"

usage() {
    cat <<'END'
Usage: ./install.sh try [ARGUMENT…]

  try    installs what is missing, then shows the recorder at work: it hears a microphone, or a simulated room where
         there is none, and sends what it heard to a storage server and an MQTT broker of its own on this machine.
         The arguments are those of `kiosk-recorder try`.

Needs root or sudo only for Debian packages that are missing. Python packages go to .venv in this directory.

Examples:
  ./install.sh try                  until Ctrl-C
  ./install.sh try --seconds 30     for 30 seconds, with or without a terminal
  ./install.sh try --help           everything that `try` can do
END
}

# Usage: try_it [ARGUMENT…]
try_it() {
    need_packages "${PYTHON_PACKAGES[@]}" mosquitto
    need_environment .venv kiosk.txt
    exec "$ROOT/.venv/bin/kiosk-recorder" try "$@"
}

main() {
    case ${1-} in
        try)
            try_it "${@:2}"
            ;;
        -h | --help)
            usage
            ;;
        *)
            [[ $# -eq 0 ]] || say "error: unknown argument: $1"
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
