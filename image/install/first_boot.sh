# shellcheck shell=bash
# What whoever made the card left on its boot partition is taken in before anything records: kiosk.toml, and in the folder
# `kiosk` beside it what isn't for everybody's eyes. Sourced, never run.
#
# 1. Everything is copied to `incoming.new` and judged there. What is wrong is told, and nothing is changed.
# 2. `incoming.new` becomes `incoming`, by a rename: from here on it's taken, whatever becomes of the boot partition.
# 3. What is in `incoming` is put where it belongs, the configuration after what it names.
# 4. What was in the folder is wiped off the boot partition: FAT knows no owners, and cards are stolen.
# 5. `kiosk.toml` in /etc says what was taken, and `incoming` goes.
# 6. kiosk-result.txt on the boot partition says how it went.
#
# Each step may be done twice: after a power cut the next start goes on with the one that wasn't finished.

readonly INCOMING=$ETC/incoming
readonly TAKEN=$ETC/kiosk.toml # as it was on the boot partition: another one is taken, the same one isn't again
readonly MOST_BYTES=1048576    # no certificate is that long

BOOT=""    # --provision: where the boot partition is
OUTCOME="" # "" until it's told on the boot partition how it went

provision() {
    ((EUID == 0)) || fail "this takes root" "Run it with sudo."
    ! $DRY_RUN || fail "--provision has no --dry-run" "kiosk-recorder config check --config kiosk.toml"
    BEFORE_START=true
    trap 'told_or_not; rm -rf "$SCRATCH"' EXIT
    take_in
    gather
    take_in
    ((${#PROBLEMS[@]} == 0)) || refuse
    if [[ ! -f $(at "$ETC/config.toml") ]]; then
        problem "kiosk.toml is missing" "Put it on the boot partition, beside config.txt."
        refuse
    fi
    # The spool may be a file system that was made a moment ago, root's.
    find_spool
    make_directories
    if ((CHANGES)) && [[ ! $TARGET ]]; then
        systemctl daemon-reload # drop-ins may have come
    fi
    [[ ! -f $(at "$TAKEN") ]] || commend
    OUTCOME=good
}

# Usage: gather — copies and judges what is new on the boot partition, if anything is.
gather() {
    local config files fresh
    fresh=$(at "$INCOMING.new")
    config=$(left_config)
    mapfile -t files < <(left_files)
    if [[ $config ]] && cmp -s "$config" "$(at "$TAKEN")"; then
        config=""
    fi
    [[ $config ]] || ((${#files[@]})) || return 0
    rm -rf "$fresh"
    mkdir -p "$(at "$ETC")"
    mkdir -m 0700 "$fresh" "$fresh/files"
    if [[ $config ]]; then
        cp -- "$config" "$fresh/kiosk.toml"
        plain_text "$config" >"$fresh/config.toml"
    fi
    local file
    for file in "${files[@]}"; do
        if may_be_taken "$file"; then
            plain_text "$file" >"$fresh/files/${file##*/}"
        fi
    done
    judge_incoming
    if ((${#PROBLEMS[@]})); then
        rm -rf "$fresh"
        return 0
    fi
    sync -f "$fresh"
    change "take ${config:+kiosk.toml and }$(counted "${#files[@]}" file) from the boot partition" \
        mv -T "$fresh" "$(at "$INCOMING")"
    sync "$(at "$ETC")"
}

# Usage: left_config — prints where kiosk.toml is, if it is there. Windows likes to add .txt, and hides that.
left_config() {
    find "$(at "$BOOT")" -maxdepth 1 -type f \( -iname kiosk.toml -o -iname kiosk.toml.txt \) 2>/dev/null |
        sort | head -n 1
}

# Usage: left_files — prints what lies in the folder, but for what Windows and macOS leave everywhere.
left_files() {
    find "$(at "$BOOT/kiosk")" -mindepth 1 -maxdepth 1 ! -name '.*' ! -iname thumbs.db ! -iname desktop.ini 2>/dev/null |
        sort
}

# Usage: may_be_taken FILE — whether it can be put into /etc; if not, that is a problem.
may_be_taken() {
    local name=${1##*/}
    if [[ ! -f $1 ]]; then
        problem "kiosk/$name is no file" "Put files into the folder kiosk itself."
    elif [[ ! $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then
        problem "kiosk/$name can't be a name" "Use letters, digits, dots, hyphens and underscores."
    elif [[ ${name,,} =~ ^(config\.toml.*|kiosk\.toml.*|device\.key|enrolment\.json|incoming.*)$ ]]; then
        problem "kiosk/$name isn't yours to bring" "The kiosk makes it itself; kiosk.toml lies beside the folder."
    elif (($(stat -c %s "$1") > MOST_BYTES)); then
        problem "kiosk/$name is far too large" "Is this the right file?"
    else
        return 0
    fi
    return 1
}

# Usage: plain_text FILE — prints it as Linux reads text: UTF-8, no byte-order mark, lines that end in LF. What is no text
# stays as it is.
plain_text() {
    python3 -c '
import sys
data = open(sys.argv[1], "rb").read()
utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
try:
    text = data.decode("utf-16" if utf16 else "utf-8-sig")
except UnicodeDecodeError:
    text = "\0"
if "\0" not in text:
    data = text.replace("\r\n", "\n").encode()
sys.stdout.buffer.write(data)' "$1"
}

# Usage: judge_incoming — whether a kiosk can be had of what was copied; all that is wrong is a problem.
judge_incoming() {
    local config said key path name
    config=$INCOMING.new/config.toml
    if [[ -f $(at "$config") ]]; then
        if ! said=$(understands "$VERSION" "$config"); then
            PROBLEMS+=("${said//"$config"/kiosk.toml}")
            return
        fi
    else
        config=$ETC/config.toml
    fi
    for key in mqtt.ca mqtt.certificate mqtt.key mqtt.password_file; do
        path=$(setting "$key" "$(at "$config")")
        name=${path##*/}
        [[ ! $path || -f $(at "$path") || ($path == "$ETC/$name" && -f $(at "$INCOMING.new/files/$name")) ]] ||
            problem "$key = \"$path\": there is no such file" \
                "Put it into the folder kiosk on the boot partition, and name it $ETC/${name}."
    done
}

# Usage: take_in — makes what is in `incoming` the kiosk's own, if there is anything.
take_in() {
    local file
    [[ -d $(at "$INCOMING") ]] || return 0
    for file in "$(at "$INCOMING")"/files/*; do
        [[ ! -f $file ]] || put_in_place "$file"
    done
    if [[ -f $(at "$INCOMING/config.toml") ]]; then
        NEW_CONFIG=$(at "$INCOMING/config.toml")
        write_drop_ins "$VERSION"
        name_host
        set_zone
        write_settings
        give_secrets
        make_key "$VERSION"
    fi
    wipe
    if [[ -f $(at "$INCOMING/kiosk.toml") ]]; then
        put_file "$(at "$INCOMING/kiosk.toml")" "$TAKEN" 0640 root:kiosk
    fi
    remove "$INCOMING"
    sync "$(at "$ETC")"
}

# Usage: put_in_place FILE — by its name it's known where to.
put_in_place() {
    local name=${1##*/}
    case $name in
        environment) put_file "$1" "$ETC/environment" 0600 root:root ;;
        *.nmconnection) put_file "$1" "/etc/NetworkManager/system-connections/$name" 0600 root:root ;;
        *) put_file "$1" "$ETC/$name" 0600 kiosk-courier:kiosk ;;
    esac
}

# The machine is called as the kiosk is.
name_host() {
    local name
    name=$(setting device.id "$NEW_CONFIG")
    while [[ $name == *- ]]; do name=${name%-}; done # as the name of a machine may not end
    printf '%s\n' "$name" >"$SCRATCH/hostname"
    put_file "$SCRATCH/hostname" /etc/hostname 0644 root:root
    sed '/^127\.0\.1\.1[[:space:]]/d' "$(at /etc/hosts)" >"$SCRATCH/hosts" 2>/dev/null || true
    printf '127.0.1.1\t%s\n' "$name" >>"$SCRATCH/hosts"
    put_file "$SCRATCH/hosts" /etc/hosts 0644 root:root
    [[ $TARGET || $(hostname) == "$name" ]] || change "call this machine $name" hostname "$name"
}

# People who log in see the clinic's time. The kiosk itself goes by its configuration.
set_zone() {
    local zone
    zone=$(setting device.timezone "$NEW_CONFIG" UTC)
    [[ -f $(at "/usr/share/zoneinfo/$zone") ]] || return 0
    put_link "/usr/share/zoneinfo/$zone" /etc/localtime
    printf '%s\n' "$zone" >"$SCRATCH/timezone"
    put_file "$SCRATCH/timezone" /etc/timezone 0644 root:root
}

# Usage: wipe — what was taken from the folder is overwritten and removed. What was put there since stays, to be taken next.
wipe() {
    local file
    while read -r file; do
        plain_text "$file" >"$SCRATCH/file"
        if cmp -s "$SCRATCH/file" "$(at "$INCOMING/files/${file##*/}")"; then
            change "wipe kiosk/${file##*/} off the boot partition" shred --iterations=0 --zero --remove=unlink -- "$file"
        fi
    done < <(left_files)
    if [[ -d $(at "$BOOT/kiosk") && ! $(left_files) ]]; then
        change "remove the folder kiosk from the boot partition" rm -rf -- "$(at "$BOOT/kiosk")"
    fi
    [[ ! -d $(at "$BOOT") ]] || sync -f "$(at "$BOOT")"
}

# Usage: commend — tells that the kiosk is as kiosk.toml says.
commend() {
    local config
    config=$(at "$ETC/config.toml")
    tell "good" "" \
        "kiosk       $(setting device.id "$config")" \
        "site        $(setting device.site "$config")" \
        "time zone   $(setting device.timezone "$config" UTC)" \
        "recordings  $(or_none "$(setting upload.target "$config")")" \
        "broker      $(or_none "$(setting mqtt.url "$config")")" \
        "release     $VERSION" "" \
        "This says that kiosk.toml was taken. Whether the kiosk records: kiosk-recorder status"
    # The public half of its key, for the admin.
    if [[ -f $(at "$ETC/enrolment.json") ]]; then
        leave "$(at "$ETC/enrolment.json")" kiosk-enrolment.json
    fi
}

# Usage: refuse — tells all that is wrong, and ends the script.
refuse() {
    local goes_on="There is no kiosk yet: put the card into a computer, mend this, and start it again."
    [[ ! -f $(at "$ETC/config.toml") ]] ||
        goes_on="The kiosk goes on as it was. To change it put the card into a computer, mend this, and start it again."
    tell "not good: nothing was taken" "" "${PROBLEMS[@]}" "" "$goes_on"
    OUTCOME=refused
    printf 'error: %s\n' "${PROBLEMS[@]}" >&2
    exit 2
}

# Usage: told_or_not — what ends without an outcome ended where nobody foresaw it.
told_or_not() {
    [[ $OUTCOME ]] ||
        tell "not good: it ended early" "" "The last step was: ${LATEST:-none}" \
            "It's gone on with at the next start. What happened: journalctl -u kiosk-first-boot"
}

# Usage: tell LINE… — what kiosk-result.txt on the boot partition says. Where that can't be written the journal has it.
tell() {
    printf '%s\n' "$@" | sed 's/$/\r/' >"$SCRATCH/result"
    leave "$SCRATCH/result" kiosk-result.txt
}

# Usage: leave FILE NAME — the boot partition then has it.
leave() {
    local file
    file=$(at "$BOOT/$2")
    if [[ -d ${file%/*} ]] && ! cmp -s "$1" "$file"; then
        { cp -- "$1" "$file.new" && sync "$file.new" && mv -fT "$file.new" "$file" && sync -f "$file"; } ||
            say "note: $file can't be written"
    fi
}

or_none() { printf '%s' "${1:-none}"; }

# Usage: counted NUMBER NOUN
counted() { (($1 == 1)) && printf '%s %s' "$1" "$2" || printf '%s %ss' "$1" "$2"; }
