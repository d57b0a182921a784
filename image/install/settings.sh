# shellcheck shell=bash
# What the kiosk is told about itself: config.toml and environment. Sourced, never run.

readonly ETC=/etc/kiosk-recorder
readonly LIVED=$ETC/config.toml.lived # the last one with which both services lived

# Usage: setting KEY FILE [DEFAULT] — prints what a config.toml says of section.key.
setting() {
    python3 -c '
import sys, tomllib
section, key = sys.argv[1].split(".")
with open(sys.argv[2], "rb") as file:
    print(tomllib.load(file).get(section, {}).get(key, sys.argv[3]))' "$1" "$2" "${3-}" 2>/dev/null || true
}

# Usage: have_toml — whether there is a Python to read TOML with: on a bare machine only once its packages are installed.
have_toml() {
    python3 -c 'import tomllib' 2>/dev/null
}

# A site's or kiosk's name: it's part of topics and of the store's keys.
readonly NAME='^[a-z0-9][a-z0-9-]{0,62}$'
readonly NAME_RULE="lower-case letters, digits and hyphens"

# Usage: ask VARIABLE QUESTION [PATTERN RULE] — on a terminal, sets the variable if it's empty: asks until the answer fits.
ask() {
    local -n answer=$1
    $INTERACTIVE && [[ ! $answer ]] || return 0
    while read -rp "$2: " answer || fail "nobody answers" "Name what was asked for as options: install.sh --help"; do
        [[ ! $answer =~ ${3-} ]] || return 0
        say "  → $4"
    done
}

# Usage: find_spool — sets SPOOL to where the kiosk keeps recordings, by the configuration that it's going to have.
find_spool() {
    local spool
    spool=$(setting spool.path "${NEW_CONFIG:-${CONFIG:-$(at "$ETC/config.toml")}}")
    SPOOL=${spool:-$SPOOL}
}

# Usage: settled — whether the kiosk has a configuration, or is about to.
settled() {
    [[ $NEW_CONFIG || -f $(at "$ETC/config.toml") ]]
}

# Usage: choose_settings — sets NEW_CONFIG to the file that config.toml is to be; "" leaves the one that is there.
choose_settings() {
    NEW_CONFIG=$CONFIG
    if settled; then
        agree_with_options
        return
    fi
    ! $FIRST_BOOT || return 0
    ask SITE "Site, such as north" "$NAME" "$NAME_RULE"
    ask DEVICE "Kiosk, unique in the fleet, such as room-12" "$NAME" "$NAME_RULE"
    ask UPLOAD "Where recordings go, such as s3://bucket/prefix (empty: nowhere)"
    ask BROKER "MQTT broker, such as mqtts://broker:8883 (empty: none)"
    local value
    for value in "$SITE" "$DEVICE"; do
        [[ $value =~ $NAME ]] ||
            fail "a kiosk needs a site and an id: $NAME_RULE${value:+, not \"$value\"}" \
                "Name them: --site north --id room-12, or bring a whole file: --config FILE"
    done
    for value in "$UPLOAD" "$BROKER" "$MICROPHONE"; do
        [[ $value != *[[:cntrl:]\"\\]* ]] || fail "\"$value\" can't be right" "Leave out quotes and backslashes."
    done
    NEW_CONFIG=$SCRATCH/config.toml
    cat >"$NEW_CONFIG" <<END
# Written by install.sh. Every key that there is: $OPT/current/config.example.toml

[device]
site = "$SITE"
id = "$DEVICE"

[capture]
pcm = "${MICROPHONE:-hw:CARD=KioskMic}"

[upload]
target = "$UPLOAD"

[mqtt]
url = "$BROKER"
END
}

# What options say a configuration says, too, be it brought or there. It may say more than this script knows: it's never
# written over in part.
agree_with_options() {
    agree device.site "$SITE"
    agree device.id "$DEVICE"
    agree upload.target "$UPLOAD"
    agree mqtt.url "$BROKER"
    agree capture.pcm "$MICROPHONE"
}

# Usage: agree KEY VALUE
agree() {
    local known hint="Change it there and run this again, or bring a whole file: --config FILE"
    [[ $2 ]] && have_toml || return 0
    [[ ! $CONFIG ]] || hint="Change it there, or leave out the option."
    known=$(setting "$1" "${CONFIG:-$(at "$ETC/config.toml")}")
    [[ $known == "$2" ]] || fail "${CONFIG:-$ETC/config.toml} says $1 = \"$known\", not \"$2\"" "$hint"
}

# Usage: understands VERSION FILE — whether the release can use a configuration; FILE is a path of the kiosk.
understands() {
    within "$RELEASES/$1/venv/bin/kiosk-recorder" config check --config "$2" 2>&1
}

# Usage: keep_settings — with this configuration the kiosk lives: it can be gone back to.
keep_settings() {
    put_file "$ETC/config.toml" "$LIVED" 0640 root:kiosk
}

# Usage: are_new — whether the services haven't lived with this configuration yet, be it by --config or by an editor.
are_new() {
    ! cmp -s "${NEW_CONFIG:-$(at "$ETC/config.toml")}" "$(at "$LIVED")"
}

# Usage: have_other_settings — whether they are new, and there are those with which the services lived.
have_other_settings() {
    [[ -f $(at "$LIVED") ]] && are_new
}

# Usage: take_settings_back VERSION — the configuration with which the kiosk lived, if there is one; the release is the one
# that goes on with it.
take_settings_back() {
    NEW_CONFIG=""
    [[ ! -f $(at "$LIVED") ]] || NEW_CONFIG=$(at "$LIVED")
    # First: if the power is cut in between, the configuration is still the one that doesn't live, and goes again.
    ! settled || write_drop_ins "$1"
    [[ ! $NEW_CONFIG ]] || put_file "$NEW_CONFIG" "$ETC/config.toml" 0640 root:kiosk
    NEW_CONFIG=""
}

# Usage: check_settings VERSION — whether the release understands the configuration that it's going to have.
check_settings() {
    local file said
    # The release may not be there yet when this is only tried.
    settled && complete "$1" || return 0
    # Where the kiosk can see it, too.
    file=$(mktemp -p "$(at /tmp)" kiosk-XXXXXX.toml)
    cp -- "${NEW_CONFIG:-$(at "$ETC/config.toml")}" "$file"
    if said=$(understands "$1" "${file#"$TARGET"}"); then
        rm "$file"
    else
        rm "$file"
        printf '%s\n' "$said" >&2
        fail "release $1 can't be used with this configuration" "Mend it. What runs goes on as it was."
    fi
}

# Usage: write_settings
write_settings() {
    put_directory "$ETC" 0755 root:root
    if [[ $NEW_CONFIG ]]; then
        put_file "$NEW_CONFIG" "$ETC/config.toml" 0640 root:kiosk
    fi
    # A technician's from the first day on: it's never replaced.
    [[ -f $(at "$ETC/environment") ]] || put_file "$ROOT/environment.example" "$ETC/environment" 0600 root:root
}

# Usage: make_key VERSION — this kiosk's own key, made where it stays, and what the admin believes it by. An image has
# none: else all kiosks of it had the same.
make_key() {
    local key recorder=$RELEASES/$1/venv/bin/kiosk-recorder
    key=$(setting custody.key "$(at "$ETC/config.toml")" "$ETC/device.key")
    if [[ $TARGET || ! $key ]] || ! complete "$1"; then
        return
    fi
    if [[ -f $key ]] && is_enrolled; then
        return
    fi
    change "write $ETC/enrolment.json for the admin, by this kiosk's key" \
        "$recorder" enrol --config "$ETC/config.toml" --out "$ETC/enrolment.json"
}

# Usage: is_enrolled — whether the enrolment file is of the site and kiosk that the configuration names.
is_enrolled() {
    python3 -c '
import json, sys, tomllib
with open(sys.argv[1], "rb") as config, open(sys.argv[2], "rb") as file:
    device, enrolment = tomllib.load(config)["device"], json.load(file)
sys.exit((device["site"], device["id"]) != (enrolment["site"], enrolment["device"]))' \
        "$ETC/config.toml" "$ETC/enrolment.json" 2>/dev/null
}
