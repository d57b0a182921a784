# shellcheck shell=bash
# What the system is told: users, services, devices, journal, watchdog. All of it lies in the release and is linked to
# through `current`, so that one switch changes everything at once. Sourced, never run.

readonly SYSTEM=$OPT/current/image/system
readonly UNITS=(kiosk-recorder.service kiosk-courier.service)

# What is linked, and to which file of image/system.
readonly LINKS=(
    /etc/sysusers.d/kiosk-recorder.conf kiosk-recorder.sysusers
    /etc/tmpfiles.d/kiosk-recorder.conf kiosk-recorder.tmpfiles
    /etc/udev/rules.d/85-kiosk-recorder.rules kiosk-recorder.udev
    /etc/systemd/journald.conf.d/kiosk-recorder.conf kiosk-recorder.journald.conf
    /etc/systemd/system.conf.d/kiosk-recorder.conf kiosk-recorder.system.conf
    /etc/systemd/system/kiosk-recorder.service kiosk-recorder.service
    /etc/systemd/system/kiosk-courier.service kiosk-courier.service
)

# Usage: running — whether there is a systemd that can be told of changes.
running() {
    [[ ! $TARGET && -d /run/systemd/system ]]
}

make_users() {
    within getent passwd kiosk-recorder kiosk-courier >/dev/null && return
    change "make users kiosk-recorder and kiosk-courier, and group kiosk" write_users
}

write_users() {
    within systemd-sysusers - <"$ROOT/image/system/kiosk-recorder.sysusers"
}

make_directories() {
    put_directory "$SPOOL" 0750 kiosk-recorder:kiosk
    put_directory "$SPOOL/state" 0770 kiosk-recorder:kiosk
    if running; then
        put_directory /run/kiosk-recorder 1770 root:kiosk
    fi
}

link_system() {
    local index unit
    for ((index = 0; index < ${#LINKS[@]}; index += 2)); do
        put_link "$SYSTEM/${LINKS[index + 1]}" "${LINKS[index]}"
    done
    for unit in "${UNITS[@]}"; do
        put_link "../$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
    done
    put_link "$OPT/current/venv/bin/kiosk-recorder" /usr/local/bin/kiosk-recorder
}

# Usage: unlink_system
unlink_system() {
    local index unit
    for unit in "${UNITS[@]}"; do
        remove "/etc/systemd/system/multi-user.target.wants/$unit" "/etc/systemd/system/$unit.d"
    done
    for ((index = 0; index < ${#LINKS[@]}; index += 2)); do
        remove "${LINKS[index]}"
    done
    remove /usr/local/bin/kiosk-recorder
}
