# shellcheck shell=bash
# What is looked at before anything is changed: everything, and all that is wrong is said at once. Sourced, never run.

readonly NEEDED_MIB=700 # a release with its wheels, and the one before it
readonly OLDEST_CLOCK=1764547200 # this release is from after 1 December 2025, so no clock that is right says less

PROBLEMS=() # what makes an installation impossible
REMARKS=()  # what a technician should know

# Usage: problem CAUSE HINT; remark CAUSE HINT
problem() { PROBLEMS+=("$1"$'\n'"  → $2"); }
remark() { REMARKS+=("$1"$'\n'"  → $2"); }

# Usage: preflight — says all remarks and problems; with a problem it ends the script, and nothing was changed.
preflight() {
    check_rights
    check_system
    check_space
    check_packages
    check_config
    if [[ ! $TARGET ]]; then
        check_clock
        check_network
        check_microphone
        check_swap
        check_systemd
    fi
    complete "$VERSION" || check_sources
    local each
    for each in "${REMARKS[@]}"; do
        printf 'note: %s\n' "$each" >&2
    done
    ((${#PROBLEMS[@]})) || return 0
    for each in "${PROBLEMS[@]}"; do
        printf 'error: %s\n' "$each" >&2
    done
    say "Nothing was changed."
    exit 2
}

check_rights() {
    ((EUID == 0)) || problem "this takes root" "Run it with sudo."
}

# Usage: os_release KEY — prints what the kiosk's system says of itself.
os_release() {
    sed -n "s/^$1=\"\?\([^\"]*\)\"\?\$/\1/p" "$(at /etc/os-release)" 2>/dev/null || true
}

check_system() {
    local id version architecture
    id=$(os_release ID)
    version=$(os_release VERSION_ID)
    [[ $id == debian && $version =~ ^1[23]$ ]] ||
        problem "this is no Debian 12 or 13 (${id:-unknown} ${version})" "Use Debian 12 or 13, or Raspberry Pi OS (64-bit)."
    # Raspberry Pi OS (32-bit) has a 64-bit kernel: what counts is what programs are.
    architecture=$(within dpkg --print-architecture 2>/dev/null) || architecture=unknown
    [[ $architecture == amd64 || $architecture == arm64 ]] ||
        problem "its programs are for $architecture" "Use the 64-bit edition, for arm64 or amd64."
}

check_space() {
    local free
    free=$(df -Pm "$(existing "$(at /opt)")" | awk 'NR == 2 { print $4 }')
    ((free >= NEEDED_MIB)) || complete "$VERSION" || # which is there already
        problem "only $free MiB are free for programs in /opt" "Make room: $NEEDED_MIB MiB are needed."
    free=$(df -Pm "$(existing "$(at "$SPOOL")")" | awk 'NR == 2 { print $4 }')
    ((free >= 2048)) ||
        remark "only $free MiB are free for recordings in $SPOOL" "Use a larger card, or a smaller \`spool.cap\`."
}

# Usage: existing PATH — prints it, or the nearest directory above it that is there.
existing() {
    local path=$1
    while [[ ! -e $path ]]; do path=${path%/*}; path=${path:-/}; done
    printf '%s' "$path"
}

check_packages() {
    local missing
    mapfile -t missing < <(missing_on_kiosk)
    if $OFFLINE && ((${#missing[@]})); then
        problem "Debian packages are missing: ${missing[*]}" "Offline they can't be fetched: install them first."
    fi
}

# Whether it's right, too, only the release can tell (check_settings).
check_config() {
    local file=${CONFIG:-$(at "$ETC/config.toml")} said
    [[ -f $file ]] && have_toml || return 0
    said=$(python3 -c 'import sys, tomllib; tomllib.load(open(sys.argv[1], "rb"))' "$file" 2>&1) ||
        problem "$file is no TOML: ${said##*: }" "Mend it: there all keys are, $ROOT/config.example.toml"
}

check_clock() {
    (($(date +%s) >= OLDEST_CLOCK)) || $OFFLINE ||
        problem "the clock says $(date +%F)" "Set it (date --set), or wait for NTP: certificates are refused until then."
}

check_network() {
    $OFFLINE && return
    [[ ${HTTPS_PROXY-}${https_proxy-} ]] && return
    # A route to everywhere: flags with RTF_UP, destination and mask 0 (IPv6: prefix length 0, not on lo).
    awk '$2 == "00000000" && $8 == "00000000" { found = 1 } END { exit !found }' /proc/net/route 2>/dev/null && return
    awk '$2 == "00" && $10 != "lo" { found = 1 } END { exit !found }' /proc/net/ipv6_route 2>/dev/null && return
    problem "there is no network" "Connect it, or bring the packages: --offline --wheelhouse DIR."
}

check_microphone() {
    grep -qs capture /proc/asound/pcm ||
        remark "no microphone is connected" "Plug one in; it's heard as soon as it is there."
}

check_swap() {
    local path
    while read -r path _; do
        [[ $path != /dev/zram* && $path != /var/swap ]] || continue
        remark "this machine swaps to $path" \
            "Recordings are kept out of it, but the card wears: take it out of /etc/fstab, and swapoff $path."
    done < <(tail -n +2 /proc/swaps 2>/dev/null)
}

check_systemd() {
    [[ -d /run/systemd/system ]] ||
        remark "systemd doesn't run here" "The services begin with the next start of a machine that has it."
}

check_sources() {
    if [[ $WHEELHOUSE ]]; then
        [[ $(ls "$WHEELHOUSE/kiosk_recorder-$VERSION-"*.whl 2>/dev/null) ]] ||
            problem "$WHEELHOUSE has no wheel of kiosk-recorder $VERSION" "Make one: ./install.sh wheelhouse DIR"
        if [[ -f $WHEELHOUSE/SHA256SUMS ]]; then
            (cd "$WHEELHOUSE" && sha256sum --check --quiet --strict SHA256SUMS) >/dev/null 2>&1 ||
                problem "the wheels in $WHEELHOUSE aren't those that were put there" "Copy them again."
        fi
    elif $OFFLINE; then
        problem "--offline has nothing to install from" "Name the wheels: --wheelhouse DIR"
    fi
    # Whether its content is right is known once the release is built, before anything changes for the running one.
}
