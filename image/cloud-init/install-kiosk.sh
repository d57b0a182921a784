#!/usr/bin/env bash
# Run by cloud-init at the end of each start of a stock Raspberry Pi OS: while a release lies on the boot partition, it's
# installed, with what it needs from the network. The start after that takes in kiosk.toml, and records.
set -euo pipefail

readonly BOOT=/boot/firmware PLACE=/var/tmp/kiosk-recorder

# Usage: tell LINE… — where whoever made the card reads it.
tell() {
    printf '%s\r\n' "$@" >"$BOOT/kiosk-result.txt"
    sync -f "$BOOT"
}

# Usage: wait_for_clock — certificates can't be judged by a clock that is wrong. Without one install.sh says so.
wait_for_clock() {
    local waited
    for ((waited = 0; waited < 300; waited += 5)); do
        [[ $(timedatectl show --property=NTPSynchronized --value) != yes ]] || return 0
        sleep 5
    done
}

main() {
    [[ -f $BOOT/kiosk-recorder.tar.gz ]] || return 0
    tell "not good yet: the release is being installed" "" "It takes 5 to 20 minutes, and a network."
    wait_for_clock
    rm -rf "$PLACE"
    mkdir -p "$PLACE"
    if ! { tar -xzf "$BOOT/kiosk-recorder.tar.gz" -C "$PLACE" && "$PLACE/install.sh" --first-boot; } >"$PLACE.log" 2>&1; then
        mapfile -t said < <(tail -n 20 "$PLACE.log")
        tell "not good: the release can't be installed" "" "${said[@]}" "" "The next start tries again."
        exit 1
    fi
    # The last step: until here a start after a power cut begins anew.
    rm -rf "$PLACE" "$BOOT/kiosk-recorder.tar.gz"
    tell "not good yet: the release is installed" "" "The kiosk starts again now, and takes in kiosk.toml."
    systemctl --no-block reboot
}

main; exit
