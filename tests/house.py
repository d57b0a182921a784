"""A Home Assistant without its front end, run by a Python that has one: `python tests/house.py PORT DIRECTORY`.

It connects to the broker at PORT of this machine, discovers what there is, and for each line that it reads tells what
it sees, as one line of JSON: state and attributes of every entity, by entity id; every device; and what its
integrations warned of so far.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.helpers import device_registry

_WARNINGS: list[str] = []


class _Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _WARNINGS.append(self.format(record))


async def _main(port: int, directory: str) -> None:
    hass = core.HomeAssistant(directory)
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    loader.async_setup(hass)
    await bootstrap.async_load_base_functionality(hass)
    # MQTT asks for the web server, which nobody needs here.
    hass.config.components |= {"http", "file_upload"}
    entry = config_entries.ConfigEntry(
        data={"broker": "127.0.0.1", "port": port, "protocol": "5"},
        discovery_keys={},
        domain="mqtt",
        minor_version=2,
        options={},
        source="user",
        subentries_data=None,
        title="mqtt",
        unique_id=None,
        version=1,
    )
    await hass.config_entries.async_add(entry)
    await hass.async_start()
    print("started", flush=True)  # noqa: T201 (how it is talked to)
    while await asyncio.to_thread(sys.stdin.readline):
        await hass.async_block_till_done(wait_background_tasks=False)
        states = {each.entity_id: {"state": each.state, **each.attributes} for each in hass.states.async_all()}
        devices = [each.dict_repr for each in device_registry.async_get(hass).devices.values()]
        told = {"states": states, "devices": devices, "warnings": _WARNINGS}
        print(json.dumps(told, default=str), flush=True)  # noqa: T201
    await hass.async_stop(force=True)


if __name__ == "__main__":
    logging.getLogger("homeassistant.components").addHandler(_Keep(logging.WARNING))
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2]))
