"""The commands of `kiosk-fleet`, a file each: arguments in, exit status out."""
