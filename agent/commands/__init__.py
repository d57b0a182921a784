"""What the commands of `kiosk-recorder` do, one noun a module. `agent.cli` reads the arguments and calls in here.

Each command's function prints what was asked for and returns the exit status: good, found something wrong, unusable
(`agent.errors`). What it can't do it tells with a KioskError.
"""
