# shellcheck shell=bash
# Whether the kiosk lives: services are started, and watched for a while. Sourced, never run.

readonly COMING_UP_SECONDS=90

# Usage: tell_system — everything that reads what a release brings reads it again.
tell_system() {
    systemd-tmpfiles --create /etc/tmpfiles.d/kiosk-recorder.conf
    systemctl daemon-reload
    # What the hardware watchdog is told takes effect by this alone, and services don't notice.
    systemctl daemon-reexec
    udevadm control --reload || true
    udevadm trigger --subsystem-match=sound --action=change --settle || true
    systemctl try-restart systemd-journald.service || true
}

# Usage: start_services — what is current begins.
start_services() {
    systemctl reset-failed "${UNITS[@]}" 2>/dev/null || true
    systemctl restart --no-block "${UNITS[@]}"
}

# Usage: active — whether both services say that they get on.
active() {
    systemctl --quiet is-active "${UNITS[0]}" && systemctl --quiet is-active "${UNITS[1]}"
}

# Usage: restarts — prints how often systemd had to start them again.
restarts() {
    systemctl show --property=NRestarts --value "${UNITS[@]}" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Usage: healthy SECONDS — whether both services come up and then live that long without being started again.
healthy() {
    local deadline=$((SECONDS + COMING_UP_SECONDS)) began
    began=$(restarts)
    until active; do
        # What ends as often as that won't live: the sooner it's given up the less goes unheard.
        ((SECONDS < deadline && $(restarts) < began + 3)) || return 1
        sleep 1
    done
    began=$(restarts)
    deadline=$((SECONDS + $1))
    while ((SECONDS < deadline)); do
        sleep 1
        active && (($(restarts) == began)) || return 1
    done
}

# Usage: what_it_does — prints what the recorder says of itself, as the end of a sentence.
what_it_does() {
    local state
    state=$(grep -om1 '"state": "[a-z_]*"' /run/kiosk-recorder/recorder.json 2>/dev/null | head -n 1 | cut -d '"' -f 4) || true
    if [[ $state == recording || $state == listening ]]; then # which is how it records by voice
        printf 'records'
    else
        printf "runs, but doesn't record: %s" "${state:-it says nothing yet}"
    fi
}

# Usage: show_trouble — the last words of both services.
show_trouble() {
    journalctl --no-pager --lines=15 --output=cat --unit="${UNITS[0]}" --unit="${UNITS[1]}" 2>/dev/null |
        sed 's/^/    /' >&2 || true
}
