# shellcheck shell=bash
# How install.sh changes a machine: by a few small steps, each taken only where something isn't yet as it should be, so
# that a second run changes nothing, and a run that was cut short is gone on with by the next. Sourced, never run.
#
# Paths are the kiosk's own; with --root they lie below another directory.

TARGET=""      # --root: the directory that is the kiosk's /; "" is this machine
DRY_RUN=false  # --dry-run: say what would be changed
CHANGES=0      # how many there were, or would have been
LATEST=""      # the last of them
LOCKED=""      # by which descriptor this script holds the lock

# In memory: something was changed, and the services don't know yet. After a start of the machine they do.
readonly UNFINISHED=/run/kiosk-recorder-install

# Held by whoever changes this kiosk: a technician's install.sh, or the one that judges after a power cut.
readonly LOCK=/run/kiosk-recorder-install.lock

# Usage: at PATH — prints where a path of the kiosk lies here.
at() {
    printf '%s' "$TARGET$1"
}

# Usage: within COMMAND… — runs it on the kiosk.
within() {
    if [[ $TARGET ]]; then
        chroot "$TARGET" "$@"
    else
        "$@"
    fi
}

# Usage: one_at_a_time — waits until no other install.sh changes this kiosk, and lets none until this one ends.
one_at_a_time() {
    local file
    file=$(at "$LOCK")
    ((EUID == 0)) && ! $DRY_RUN && [[ -d ${file%/*} ]] || return 0
    exec {LOCKED}>"$file"
    flock --nonblock "$LOCKED" && return
    say "Another install.sh is at work on this kiosk. This one waits until it has ended."
    flock "$LOCKED"
}

# Usage: change DESCRIPTION COMMAND… — the only way in which anything is changed.
change() {
    CHANGES=$((CHANGES + 1)) LATEST=$1
    if $DRY_RUN; then
        say "  would $1"
        return
    fi
    if ((CHANGES == 1)) && running; then
        touch "$UNFINISHED"
    fi
    say "  $1"
    "${@:2}"
}

# Usage: put_file SOURCE PATH MODE OWNER:GROUP — PATH then has the content of SOURCE, whole or not at all.
put_file() {
    local file
    file=$(at "$2")
    if [[ -f $file && ! -L $file ]] && cmp -s "$1" "$file"; then
        put_owner "$2" "$3" "$4"
    else
        change "write $2" write_file "$@"
    fi
}

write_file() {
    local file
    file=$(at "$2")
    mkdir -p "${file%/*}"
    cp -- "$1" "$file.new"
    own "$2.new" "$3" "$4"
    sync "$file.new"
    mv -fT "$file.new" "$file"
    sync "${file%/*}"
}

# Usage: put_link DESTINATION PATH — PATH then is a symbolic link to it, from one moment to the next.
put_link() {
    [[ $(readlink "$(at "$2")") == "$1" ]] || change "link $2 to $1" write_link "$@"
}

write_link() {
    local link
    link=$(at "$2")
    mkdir -p "${link%/*}"
    ln -sfn "$1" "$link.new"
    mv -fT "$link.new" "$link"
    sync "${link%/*}"
}

# Usage: put_directory PATH MODE OWNER:GROUP
put_directory() {
    if [[ -d $(at "$1") ]]; then
        put_owner "$@"
    else
        change "make $1" write_directory "$@"
    fi
}

write_directory() {
    mkdir -p "$(at "$1")"
    own "$@"
}

# Usage: put_owner PATH MODE OWNER:GROUP
put_owner() {
    [[ $(within stat -c '%a %U:%G' "$1") == "${2#0} $3" ]] || change "give $1 to $3, mode $2" own "$@"
}

own() {
    within chown "$3" "$1"
    chmod "$2" "$(at "$1")"
}

# Usage: remove PATH… — what isn't there is fine. Where a file system is mounted its directory stays, empty.
remove() {
    local path file
    for path in "$@"; do
        file=$(at "$path")
        if mountpoint --quiet -- "$file"; then
            [[ ! $(ls -A "$file") ]] || change "empty $path" find "$file" -xdev -mindepth 1 -delete
        elif [[ -e $file || -L $file ]]; then
            change "remove $path" rm -rf -- "$file"
        fi
    done
}
