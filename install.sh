#!/usr/bin/env bash
# Makes a bare Debian 12 or 13 (or Raspberry Pi OS, 64-bit) a kiosk; upgrades it, takes a step back, removes it.
set -euo pipefail

# shellcheck source=requirements/provide.sh
source "$(dirname "${BASH_SOURCE[0]}")/requirements/provide.sh"
# shellcheck source=image/install/change.sh
source "$ROOT/image/install/change.sh"
# shellcheck source=image/install/release.sh
source "$ROOT/image/install/release.sh"
# shellcheck source=image/install/settings.sh
source "$ROOT/image/install/settings.sh"
# shellcheck source=image/install/system.sh
source "$ROOT/image/install/system.sh"
# shellcheck source=image/install/services.sh
source "$ROOT/image/install/services.sh"
# shellcheck source=image/install/preflight.sh
source "$ROOT/image/install/preflight.sh"
# shellcheck source=image/install/first_boot.sh
source "$ROOT/image/install/first_boot.sh"

MODE=install
CONFIG="" NEW_CONFIG="" SITE="" DEVICE="" UPLOAD="" BROKER="" MICROPHONE="" WHEELHOUSE=""
OFFLINE=false PURGE=false DELETE_RECORDINGS=false INTERACTIVE=false FIRST_BOOT=false
HEALTH_SECONDS=60
SPOOL=/var/lib/kiosk-recorder
readonly IN_MEMORY=/run/kiosk-recorder/direct # recordings that the card doesn't have

usage() {
    cat <<'END'
Usage: ./install.sh [OPTION…]                makes this machine a kiosk, or brings it up to date
       ./install.sh --rollback | --uninstall
       ./install.sh try [ARGUMENT…]          shows the recorder at work; installs nothing but packages
       ./install.sh wheelhouse DIR           fetches and builds what an installation without network needs

Who the kiosk is (asked for on a terminal):
  --config FILE        its whole config.toml
  --site NAME          or what it takes at least: the clinic,
  --id NAME            the kiosk, unique in the fleet,
  --target URL         where recordings go,
  --broker URL         who is told how it's doing,
  --microphone PCM     and what hears (default: hw:CARD=KioskMic, the USB microphone)
  --first-boot         or nobody yet: each start takes kiosk.toml from the boot partition (image/README.md)

How it is installed:
  --dry-run            say what would be changed, and change nothing
  --offline            use no network; needs
  --wheelhouse DIR     Python packages, as `wheelhouse` made them
  --root DIR           into an image that is mounted at DIR
  --upgrade            only what is installed already: a newer release, which is kept if it lives for a minute
  --health-seconds N   how long that is (default: 60)
  --rollback           the release before this one again
  --uninstall          stop and remove the recorder; configuration and recordings stay
  --purge              with --uninstall: they go, too. Recordings are deleted only when that is said twice: by
  --delete-recordings  this, or by typing the kiosk's name on a terminal

Exit status: 0 good; 1 the release doesn't live, and the one before it runs again if there was one; 2 nothing that runs
was changed.

Examples:
  sudo ./install.sh --site north --id room-12 --target s3://clinic-north/rooms --broker mqtts://broker:8883
  sudo ./install.sh --config room-12.toml --offline --wheelhouse /media/usb/wheels
  sudo ./install.sh --upgrade
END
}

# Usage: try_it [ARGUMENT…]
try_it() {
    need_packages "${PYTHON_PACKAGES[@]}" mosquitto
    need_environment .venv kiosk.txt
    exec "$ROOT/.venv/bin/kiosk-recorder" try "$@"
}

# Usage: make_wheelhouse DIR
make_wheelhouse() {
    [[ ${1-} ]] || fail "wheelhouse needs a directory" "./install.sh wheelhouse DIR"
    need_packages "${PYTHON_PACKAGES[@]}"
    mkdir -p "$1"
    make_wheels "$1"
    (cd "$1" && sha256sum -- *.whl >SHA256SUMS)
    say "Wheels for $("$PYTHON" --version) on $(dpkg --print-architecture): $1"
}

# Usage: missing_on_kiosk — prints the Debian packages that a kiosk needs and this one doesn't have.
missing_on_kiosk() {
    local sound=libasound2 package
    [[ $(os_release VERSION_ID) != 13 ]] || sound=libasound2t64
    local needed=("$sound" systemd tzdata ca-certificates)
    if complete "$VERSION" || $OFFLINE || [[ $WHEELHOUSE ]]; then
        needed+=(python3 python3-venv)
    else
        needed+=("${PYTHON_PACKAGES[@]}")
    fi
    for package in "${needed[@]}"; do
        # shellcheck disable=SC2016 # dpkg's own variable
        within dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$package"
    done
}

install_missing() {
    local missing
    mapfile -t missing < <(missing_on_kiosk)
    ((${#missing[@]} == 0)) || change "install Debian packages: ${missing[*]}" within bash -euc \
        "$(declare -f install_packages); install_packages \"\$@\"" bash "${missing[@]}"
}

# The steps of an installation, in order. Each does what isn't done yet; what runs is touched by the last ones alone.
install_kiosk() {
    find_spool
    preflight
    choose_settings
    install_missing
    find_spool # again: only now there is sure to be a Python to read TOML with
    [[ ! $CONFIG ]] || agree_with_options
    make_users
    build_release "$VERSION"
    check_settings "$VERSION"
    begin_trial "$VERSION"
    write_settings
    make_directories
    give_secrets
    make_key "$VERSION"
    make_swap_safe
    ! settled || write_drop_ins "$VERSION"
    move_on_to "$VERSION"
    link_system
    wait_for_settings
    if running && settled && are_new; then
        change "use $ETC/config.toml as it is now" true
    fi
    if ((CHANGES == 0)) && [[ ! -e $(at "$UNFINISHED") ]]; then
        say "Release $VERSION is installed as it should be: nothing was changed."
    elif $DRY_RUN; then
        say "Nothing was changed."
    elif ! settled; then
        say "Release $VERSION is installed. The kiosk takes its configuration when it starts: kiosk.toml on the boot partition."
    elif running; then
        tell_system
        start_services
        judge "$HEALTH_SECONDS"
    elif [[ -e $(at "$OPT/trial") ]]; then
        say "Release $VERSION is installed. The kiosk begins with it when it starts, and keeps it if it lives."
    else
        say "Release $VERSION is installed. The kiosk begins to record when it starts."
    fi
}

# Usage: judge SECONDS — keeps the current release and configuration if they live that long; what is on trial gives way to
# what was there before it if not.
judge() {
    local current proven=""
    current=$(version_of current)
    ! on_trial || proven=$(version_of proven)
    say "  watch both services for $1 s"
    if healthy "$1"; then
        [[ ${proven:-$current} == "$current" ]] || put_link "releases/$proven" "$OPT/previous"
        end_trial
        keep_settings
        rm -f "$UNFINISHED"
        prune_releases
        say "Release $current $(what_it_does). How it's doing: kiosk-recorder status"
        return
    fi
    show_trouble
    if [[ ${proven:-$current} != "$current" ]]; then
        say "error: release $current doesn't live: back to $proven"
    elif have_other_settings; then
        say "error: release $current doesn't live with this configuration. Back to the configuration with which it lived."
    else
        end_trial
        say "error: release $current doesn't live, and there is none to go back to"
        say "  → Mend what is said above: kiosk-recorder status. It's tried again and again meanwhile."
        exit 1
    fi
    take_settings_back "${proven:-$current}"
    move_on_to "${proven:-$current}"
    end_trial
    tell_system
    start_services
    rm -f "$UNFINISHED"
    healthy 5 || show_trouble
    exit 1
}

# Usage: judge_trial — what a power cut, or whoever left off, left unjudged.
judge_trial() {
    on_trial || return 0 # the one that was waited for judged it
    if [[ -e $(at "$UNFINISHED") ]]; then
        tell_system
        start_services
    fi
    judge "$HEALTH_SECONDS"
}

# The release before this one is on trial, too: if it doesn't live either this one goes on.
roll_back() {
    ((EUID == 0)) || fail "this takes root" "Run it with sudo."
    local previous current
    current=$(version_of current) || true
    previous=$(version_of previous) || true
    ! on_trial || previous=$(version_of proven)
    if [[ ! $previous || $previous == "$current" ]] || ! complete "$previous"; then
        fail "there is no release before ${current:-this one}" "Install another: ./install.sh --upgrade"
    fi
    begin_trial "$previous"
    if understands "$previous" "$ETC/config.toml" >/dev/null; then
        write_drop_ins "$previous"
    else
        take_settings_back "$previous"
    fi
    move_on_to "$previous"
    [[ $(version_of proven) != "$previous" ]] || end_trial # what was proven isn't tried
    if $DRY_RUN; then
        return
    fi
    if running; then
        tell_system
        start_services
        judge 5
    else
        say "The kiosk begins with release $previous when it starts."
    fi
}

uninstall() {
    ((EUID == 0)) || fail "this takes root" "Run it with sudo."
    find_spool
    if $PURGE; then
        confirm_purge
    else
        keep_recordings
    fi
    if running && ! $DRY_RUN; then
        systemctl stop "${UNITS[@]}" kiosk-trial.service 2>/dev/null || true
    fi
    unlink_system
    leave_swap
    remove "$OPT"
    if $PURGE; then
        remove "$ETC" "$SPOOL" "$IN_MEMORY"
        remove_users
    fi
    if running && ! $DRY_RUN; then
        systemctl daemon-reexec
        rm -f "$UNFINISHED"
    fi
    ((CHANGES)) || say "There is nothing to remove."
    $PURGE || say "Recordings stay in $SPOOL, the configuration in $ETC."
}

# Usage: recordings DIRECTORY… — prints how many there are: sealed, being written, and set aside.
recordings() {
    local directory
    for directory in "$@"; do
        find "$(at "$directory/spool")" -type f \( -name '*.flac' -o -name '*.flac.age' -o -name '*.part' \) 2>/dev/null || true
    done | wc -l
}

# What is in memory and wasn't sent yet is gone when the power is.
keep_recordings() {
    local count
    count=$(recordings "$IN_MEMORY")
    ((count == 0)) || fail "$count recordings are in memory only, in $IN_MEMORY, and weren't sent yet" \
        "End recording (systemctl stop kiosk-recorder) and wait until they are sent (kiosk-recorder status), or add --purge."
}

# Recordings are deleted only when that was said twice.
confirm_purge() {
    local count answer
    $DELETE_RECORDINGS && return
    count=$(recordings "$SPOOL" "$IN_MEMORY")
    $INTERACTIVE || fail "--purge deletes $count recordings in $SPOOL and in memory" "Say so twice: add --delete-recordings."
    local name
    name=$(sed -n 's/^id *= *"\(.*\)"$/\1/p' "$(at "$ETC/config.toml")" 2>/dev/null)
    read -rp "This deletes $count recordings for good. Type the kiosk's name (${name:=delete}): " answer
    [[ $answer == "$name" ]] || fail "that isn't its name: nothing was changed" "Leave out --purge to keep the recordings."
}

# Usage: parse ARGUMENT…
parse() {
    while (($#)); do
        case $1 in
            --config | --site | --id | --target | --broker | --microphone | --wheelhouse | --root | --health-seconds | --provision)
                (($# >= 2)) || fail "$1 needs a value" "./install.sh --help"
                take "$1" "$2"
                shift
                ;;
            --dry-run) DRY_RUN=true ;;
            --first-boot) FIRST_BOOT=true ;;
            --offline) OFFLINE=true ;;
            --upgrade | --rollback | --uninstall | --judge) MODE=${1#--} ;;
            --purge) PURGE=true ;;
            --delete-recordings) DELETE_RECORDINGS=true ;;
            *) fail "unknown argument: $1" "./install.sh --help" ;;
        esac
        shift
    done
}

# Usage: take OPTION VALUE
take() {
    case $1 in
        --config)
            [[ -f $2 && -r $2 ]] || fail "$2 can't be read" "Is the path right?"
            CONFIG=$2
            ;;
        --site) SITE=$2 ;;
        --id) DEVICE=$2 ;;
        --target) UPLOAD=$2 ;;
        --broker) BROKER=$2 ;;
        --microphone) MICROPHONE=$2 ;;
        --wheelhouse | --root)
            [[ -d $2 ]] || fail "$1 $2: there is no such directory" "Is the path right, and is it mounted?"
            ;;&
        --wheelhouse) WHEELHOUSE=$(realpath -- "$2") ;;
        --root) TARGET=$(realpath -- "$2") ;;
        --provision) MODE=provision BOOT=$2 ;;
        --health-seconds)
            [[ $2 =~ ^[0-9]{1,4}$ ]] || fail "$1 takes a number of seconds, not \"$2\"" "./install.sh --help"
            HEALTH_SECONDS=$2
            ;;
    esac
}

# Called at the end. What was tried when the connection was lost, or somebody lost patience, is judged without them.
# shellcheck disable=SC2317 # by the trap
leave_off() {
    rm -rf "$SCRATCH"
    if [[ $LOCKED && $MODE != judge ]] && running && on_trial; then
        systemctl start --no-block kiosk-trial.service || true
    fi
}

main() {
    case ${1-} in
        try)
            try_it "${@:2}"
            ;;
        wheelhouse)
            make_wheelhouse "${@:2}"
            return
            ;;
        -h | --help)
            usage
            return
            ;;
    esac
    parse "$@"
    umask 022 # what is installed is read by other users, whoever installs it
    VERSION=$(own_version)
    [[ $TARGET != / ]] || TARGET=""
    [[ ! -t 0 || ! -t 1 ]] || INTERACTIVE=true
    SCRATCH=$(mktemp -d)
    trap leave_off EXIT
    one_at_a_time
    case $MODE in
        install) install_kiosk ;;
        upgrade)
            [[ $(version_of current) ]] || fail "there is no kiosk-recorder to upgrade" "Leave out --upgrade."
            install_kiosk
            ;;
        rollback) roll_back ;;
        judge) judge_trial ;; # kiosk-trial.service, after a power cut
        provision) provision ;; # kiosk-first-boot.service, at each start
        uninstall) uninstall ;;
    esac
}

main "$@"; exit
