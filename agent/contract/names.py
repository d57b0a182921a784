"""What a site, a device or a group may be called: safe in a path, a topic and an S3 key alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.units import MisreadError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""DESIGN §7. Always used with `fullmatch`."""


def is_name(text: str) -> bool:
    """Whether `text` may name a site, a device or a group."""
    return NAME.fullmatch(text) is not None


class Named:
    """Marks a `str` as such a name: `Annotated[str, Named()]`. Pydantic reads it; nothing is imported for it here."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def checked(text: str) -> str:
            if not is_name(text):
                raise MisreadError(
                    "can't be a name", "use 1 to 63 lower-case letters, digits and hyphens; a hyphen can't come first"
                )
            return text

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{NAME.pattern}$"}
