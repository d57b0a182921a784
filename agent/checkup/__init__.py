"""The check before a technician leaves: each thing a kiosk needs, tried for real, with what to do where it isn't good.

One area a module; each is a function from a `Visit` to findings. `areas` names them in the order in which they are
looked at, `report` tells what came out.
"""
