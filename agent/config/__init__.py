"""The configuration file: reading it, finding all its mistakes at once, showing it.

Pydantic is only imported when one of these functions runs: the command line stays quick, and the long-running
processes, which get their settings by `agent.handover`, never load it (docs/adr/0002).
"""

from agent.config.load import DEFAULT_PATH, PATH_VARIABLE, load, locate, parse
from agent.config.show import Row, as_json, as_toml, example, rows, schema

__all__ = [
    "DEFAULT_PATH",
    "PATH_VARIABLE",
    "Row",
    "as_json",
    "as_toml",
    "example",
    "load",
    "locate",
    "parse",
    "rows",
    "schema",
]
