# shellcheck shell=bash
# What the system is told: users, services, devices, journal, watchdog. All of it lies in the release and is linked to
# through `current`, so that one switch changes everything at once. Sourced, never run.

readonly SYSTEM=$OPT/current/image/system
readonly UNITS=(kiosk-recorder.service kiosk-courier.service)

readonly OF_CARDS=(kiosk-first-boot.service kiosk-spool-grow.service) # what only a kiosk that was made as a card has

BEFORE_START=false # --provision: the machine is starting, and both services wait for what this does

# What is linked, and to which file of image/system.
readonly LINKS=(
    /etc/sysusers.d/kiosk-recorder.conf kiosk-recorder.sysusers
    /etc/tmpfiles.d/kiosk-recorder.conf kiosk-recorder.tmpfiles
    /etc/udev/rules.d/85-kiosk-recorder.rules kiosk-recorder.udev
    /etc/systemd/journald.conf.d/kiosk-recorder.conf kiosk-recorder.journald.conf
    /etc/systemd/system.conf.d/kiosk-recorder.conf kiosk-recorder.system.conf
    /etc/systemd/system/kiosk-recorder.service kiosk-recorder.service
    /etc/systemd/system/kiosk-courier.service kiosk-courier.service
    /etc/systemd/system/kiosk-trial.service kiosk-trial.service
)

# Usage: running — whether there is a systemd that can be told of changes, and services that may be started.
running() {
    ! $BEFORE_START && [[ ! $TARGET && -d /run/systemd/system ]]
}

# Usage: wait_for_settings — with --first-boot kiosk.toml on the boot partition is taken in at each start, and nobody tries
# to record before there is a configuration.
wait_for_settings() {
    local unit
    $FIRST_BOOT || return 0
    cat >"$SCRATCH/condition" <<END
# The configuration comes by the boot partition (kiosk-first-boot.service).
[Unit]
ConditionPathExists=$ETC/config.toml
END
    for unit in "${UNITS[@]}"; do
        put_file "$SCRATCH/condition" "/etc/systemd/system/$unit.d/first-boot.conf" 0644 root:root
    done
    put_link "$SYSTEM/kiosk-first-boot.service" /etc/systemd/system/kiosk-first-boot.service
    put_link ../kiosk-first-boot.service /etc/systemd/system/multi-user.target.wants/kiosk-first-boot.service
}

make_users() {
    within getent passwd kiosk-recorder kiosk-courier >/dev/null && within getent group gpio >/dev/null && return
    change "make users kiosk-recorder and kiosk-courier, and groups kiosk and gpio" write_users
}

write_users() {
    within systemd-sysusers - <"$ROOT/image/system/kiosk-recorder.sysusers"
}

remove_users() {
    ! within getent group kiosk >/dev/null ||
        change "remove users kiosk-recorder and kiosk-courier, and group kiosk" delete_users
}

delete_users() {
    local user
    for user in kiosk-recorder kiosk-courier; do
        ! within getent passwd "$user" >/dev/null || within userdel "$user"
    done
    within groupdel kiosk
}

make_directories() {
    put_directory "$SPOOL" 0750 kiosk-recorder:kiosk
    put_directory "$SPOOL/state" 0770 kiosk-recorder:kiosk
}

# What hides from others what was heard, or who this kiosk is, is the courier's alone.
give_secrets() {
    local key path
    for key in mqtt.password_file mqtt.key; do
        path=$(setting "$key" "$(at "$ETC/config.toml")")
        [[ ! $path || ! -f $(at "$path") ]] || put_owner "$path" 0600 kiosk-courier:kiosk
    done
}

# Usage: write_drop_ins VERSION — what this kiosk's configuration needs beyond what the units say.
write_drop_ins() {
    local unit path
    for unit in "${UNITS[@]}"; do
        path=/etc/systemd/system/$unit.d/config.conf
        # The release may not be there yet when this is only tried.
        complete "$1" || continue
        within "$RELEASES/$1/venv/bin/python" -P -m agent.dropins "$unit" \
            <"${NEW_CONFIG:-$(at "$ETC/config.toml")}" >"$SCRATCH/$unit"
        if [[ -s $SCRATCH/$unit ]]; then
            put_file "$SCRATCH/$unit" "$path" 0644 root:root
        else
            remove "$path"
        fi
    done
}

# Swap on the card wears it out, and may keep what was heard. Memory that is compressed instead of written stays.
make_swap_safe() {
    if [[ -e $(at /etc/rpi/swap.conf) ]]; then
        put_link "$SYSTEM/kiosk-recorder.swap.conf" /etc/rpi/swap.conf.d/kiosk-recorder.conf
    fi
    if [[ -e $(at /etc/dphys-swapfile) ]]; then
        put_link /dev/null /etc/systemd/system/dphys-swapfile.service
        if running && grep -qs '^/var/swap ' /proc/swaps; then
            change "end swapping to /var/swap" swapoff /var/swap
        fi
        remove /var/swap
    fi
}

# Usage: leave_swap — the machine swaps as its own settings say again.
leave_swap() {
    local masked=/etc/systemd/system/dphys-swapfile.service
    remove /etc/rpi/swap.conf.d/kiosk-recorder.conf
    if [[ -e $(at /etc/dphys-swapfile) && $(readlink "$(at "$masked")") == /dev/null ]]; then
        remove "$masked"
    fi
}

link_system() {
    local index unit
    for ((index = 0; index < ${#LINKS[@]}; index += 2)); do
        put_link "$SYSTEM/${LINKS[index + 1]}" "${LINKS[index]}"
    done
    for unit in "${UNITS[@]}" kiosk-trial.service; do
        put_link "../$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
    done
    put_link "$OPT/current/venv/bin/kiosk-recorder" /usr/local/bin/kiosk-recorder
}

# Usage: unlink_system
unlink_system() {
    local index unit
    for unit in "${UNITS[@]}" kiosk-trial.service "${OF_CARDS[@]}"; do
        remove "/etc/systemd/system/multi-user.target.wants/$unit" "/etc/systemd/system/$unit.d"
    done
    for unit in "${OF_CARDS[@]}"; do
        remove "/etc/systemd/system/$unit"
    done
    for ((index = 0; index < ${#LINKS[@]}; index += 2)); do
        remove "${LINKS[index]}"
    done
    remove /usr/local/bin/kiosk-recorder
}
