# shellcheck shell=bash
# Provides what install.sh and tests/run require: Debian packages and a Python environment, each only when missing, so
# that the second start asks nothing of the network. Sourced, never run; expects `set -euo pipefail`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

# What every environment needs: Python, and what builds pyalsaaudio, which has no wheels.
readonly PYTHON_PACKAGES=(python3 python3-venv python3-dev gcc libc6-dev libasound2-dev)

# Debian's own interpreter is the one that python3-dev fits; tests may ask for another.
readonly PYTHON=${PYTHON:-/usr/bin/python3}

# Usage: say MESSAGE
say() {
    printf '%s\n' "$*" >&2
}

# Usage: fail MESSAGE HINT — ends the script.
fail() {
    printf 'error: %s\n  → %s\n' "$1" "$2" >&2
    exit 2
}

# Usage: step MESSAGE HINT COMMAND… — runs the command quietly; if it fails, shows its last words and ends the script.
step() {
    local message=$1 hint=$2 output
    shift 2
    printf '%s … ' "$message" >&2
    SECONDS=0
    if ! output=$("$@" 2>&1 </dev/null); then
        printf 'failed\n' >&2
        tail -n 15 <<<"$output" | sed 's/^/    /' >&2
        fail "${message,} failed" "$hint"
    fi
    printf '%d s\n' "$SECONDS" >&2
}

# Usage: missing_packages PACKAGE… — prints those that aren't installed.
missing_packages() {
    local installed package
    # It fails when there is a package it never heard of, but prints the others all the same.
    installed=$(dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        grep -qx "$package installed" <<<"$installed" || printf '%s\n' "$package"
    done
}

# Usage: install_packages PACKAGE… — as root.
install_packages() {
    # A third-party source that is out of order must not keep us from Debian's: installing decides.
    apt-get -q update || true
    DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    local service
    for service in mosquitto prometheus-node-exporter; do
        [[ " $* " == *" $service "* ]] || continue
        # Debian starts one for the whole machine with the package. Nobody asked for that one: ours run on ports of
        # their own, for as long as they are needed.
        service "$service" stop || true
        update-rc.d "$service" disable
    done
}

# Usage: need_packages PACKAGE…
need_packages() {
    local missing as_root=()
    case $(dpkg --print-architecture 2>/dev/null) in
        amd64 | arm64) ;;
        *) fail "this is no 64-bit Debian for x86 or ARM" "Use Debian 12 or newer, or Raspberry Pi OS (64-bit)." ;;
    esac
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    local by_hand="apt-get install ${missing[*]}"
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            fail "Debian packages are missing: ${missing[*]}" "As root, once: $by_hand"
        as_root=(sudo)
    fi
    step "Installing Debian packages: ${missing[*]}" "Is the network there? Mend what is said above, or as root: $by_hand" \
        "${as_root[@]}" bash -euc "$(declare -f install_packages); install_packages \"\$@\"" bash "${missing[@]}"
    if [[ " ${missing[*]} " == *' mosquitto '* ]]; then
        say "The MQTT service that comes with mosquitto was switched off (back on: systemctl enable --now mosquitto)."
    fi
}

# Usage: need_environment NAME LOCK — the directory NAME then holds exactly what LOCK names, and this project, which
# runs from where it lies.
need_environment() {
    local directory=$ROOT/$1 lock=$ROOT/requirements/$2 stamp
    "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
        fail "$PYTHON is not Python 3.11 to 3.13" "Use Debian 12 or 13, or name another by PYTHON=/path/to/python."
    # The paths are part of it, because an environment that was moved doesn't work; the settings of tools aren't.
    stamp=$("$PYTHON" --version && sha256sum "$ROOT/requirements/build.txt" "$lock" &&
        sed '/^\[tool/Q' "$ROOT/pyproject.toml" | sha256sum)
    if [[ -f $directory/stamp && $(<"$directory/stamp") == "$stamp" ]]; then
        return
    fi
    local hint="Does this machine reach its Python package index? Start again; what is half made is made anew."
    local pip=("$directory/bin/python" -m pip install --disable-pip-version-check --no-input)
    # pyalsaaudio alone is built here, with the locked build tools; nothing else may run code while it's installed.
    local locked=(--require-hashes --no-build-isolation --only-binary=:all: --no-binary=pyalsaaudio)
    rm -rf "$directory"
    step "Making a Python environment in $1" "May $ROOT be written to, and is there room?" "$PYTHON" -m venv "$directory"
    step "Installing build tools" "$hint" "${pip[@]}" "${locked[@]}" -r "$ROOT/requirements/build.txt"
    step "Installing Python packages (a minute or two)" "$hint" "${pip[@]}" "${locked[@]}" -r "$lock"
    step "Installing kiosk-recorder" "$hint" "${pip[@]}" --no-build-isolation --no-deps --no-index --editable "$ROOT"
    # Last, so that an interrupted installation is never taken for a whole one.
    printf '%s\n' "$stamp" >"$directory/stamp"
}
