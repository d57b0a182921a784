# shellcheck shell=bash
# Whether the kiosk lives: services are started, and watched for a while. Sourced, never run.

# Usage: tell_system — everything that reads what a release brings reads it again.
tell_system() {
    systemctl daemon-reload
    # What the hardware watchdog is told takes effect by this alone, and services don't notice.
    systemctl daemon-reexec
    udevadm control --reload || true
    udevadm trigger --subsystem-match=sound --action=change --settle || true
    systemctl try-restart systemd-journald.service || true
}

# Usage: start_services — a new release begins; the courier first, which then finds the recorder's first picture new.
start_services() {
    systemctl reset-failed "${UNITS[@]}" 2>/dev/null || true
    systemctl restart --no-block "${UNITS[@]}"
}

# Usage: active — whether both services say that they get on.
active() {
    systemctl --quiet is-active "${UNITS[0]}" && systemctl --quiet is-active "${UNITS[1]}"
}

restarts() {
    systemctl show --property=NRestarts --value "${UNITS[@]}" | tr '\n' ' '
}

# Usage: healthy SECONDS — whether both services come up and then live that long without being started again.
healthy() {
    local deadline began
    deadline=$((SECONDS + 90))
    until active; do
        ((SECONDS < deadline)) || return 1
        sleep 1
    done
    began=$(restarts)
    deadline=$((SECONDS + $1))
    while ((SECONDS < deadline)); do
        sleep 1
        active && [[ $(restarts) == "$began" ]] || return 1
    done
}

# Usage: show_trouble — the last words of both services.
show_trouble() {
    journalctl --no-pager --lines=15 --output=cat --unit="${UNITS[0]}" --unit="${UNITS[1]}" 2>/dev/null |
        sed 's/^/    /' >&2 || true
}
