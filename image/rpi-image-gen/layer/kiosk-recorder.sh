#!/usr/bin/env bash
# Installs a release into the root file system at $1, as on any machine, but with nobody's configuration.
set -euo pipefail

: "${IGconf_kiosk_source?}" "${IGconf_kiosk_wheelhouse?}"

# libasound2 (libasound2t64 in Debian 13) is there already: alsa-utils depends on the right one.
exec "$IGconf_kiosk_source/install.sh" --root "$1" --offline --wheelhouse "$IGconf_kiosk_wheelhouse" --first-boot
