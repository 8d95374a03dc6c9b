"""Calls of tools in what a model wrote: the text between their signs, read in its style."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.strict_json import json_object, json_objects
from models.types import ToolCall

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from models.types import Tool, ToolStyle

_OPENING = frozenset(
    {"$ref", "additionalProperties", "allOf", "anyOf", "oneOf", "patternProperties"}
    | {"dependentSchemas", "if", "unevaluatedProperties"}
)
"""Words of a schema that say more of its properties than ``properties`` does."""
_NAMED = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*(\{.*\})\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Signs:
    """What surrounds calls.

    Attributes:
        opens: What comes before a call; empty where nothing does.
        closes: What comes behind it; empty where the reply's end does.
        bare: Whether a reply may be a call without any sign.
    """

    opens: str
    closes: str = ""
    bare: bool = False


SIGNS: dict[ToolStyle, Signs] = {
    "hermes": Signs("<tool_call>", "</tool_call>"),
    "llama": Signs("<|python_tag|>", bare=True),
    "mistral": Signs("[TOOL_CALLS]"),
    "json": Signs("", bare=True),
}
OTHER_SIGNS = ("[ARGS]", "[CALL_ID]")
"""Signs within calls; newer Mistral models write ``[TOOL_CALLS]name[ARGS]{…}``."""


def read_calls(
    text: str, style: ToolStyle, tools: Collection[str], id_from: str
) -> tuple[ToolCall, ...]:
    """Return the calls that a text consists of; none unless all of it is calls.

    Args:
        text: What stands between the signs.
        style: How the model writes calls.
        tools: The names of the tools that were offered.
        id_from: What the ids of the calls are made of, so that they can be made again.
    """
    found = _of_names(text) if style == "mistral" else None
    if found is None:
        found = json_objects(text, ";,") or []
    calls = []
    for number, each in enumerate(found):
        name, arguments = each.get("name"), each.get("arguments", each.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = json_object(arguments)
        if not isinstance(name, str) or name not in tools or not isinstance(arguments, dict):
            return ()
        call_id = _call_id(style, f"{id_from}:{number}")
        calls.append(ToolCall(call_id, name, json.dumps(arguments, ensure_ascii=False)))
    return tuple(calls)


def calls_schema(tools: Sequence[Tool]) -> str:
    """Return the JSON schema of a call of one of some tools, as the style ``json`` reads it."""
    calls = []
    for number, tool in enumerate(tools):
        here = f"#/anyOf/{number}/properties/arguments"
        call = {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                "arguments": _closed(_moved(tool.parameters, here)),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        calls.append(call)
    return json.dumps({"anyOf": calls})


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without other properties than it names, where it leaves that open.

    Small models would invent more and more of them.
    """
    return schema if _OPENING & set(schema) else {**schema, "additionalProperties": False}


def _moved(schema: Any, here: str) -> Any:
    """Return a schema whose references to itself hold where it is part of another."""
    if isinstance(schema, list):
        return [_moved(each, here) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: here + each[1:]
        if name == "$ref" and isinstance(each, str) and each.startswith("#")
        else _moved(each, here)
        for name, each in schema.items()
    }


def _of_names(text: str) -> list[dict[str, Any]] | None:
    """Return calls of the form ``name{…}``; None if the text is anything else."""
    found = []
    for part in text.split(SIGNS["mistral"].opens):
        match = _NAMED.fullmatch(part)
        arguments = json_object(match[2]) if match else None
        if match is None or arguments is None:
            return None
        found.append({"name": match[1], "arguments": arguments})
    return found


def _call_id(style: ToolStyle, text: str) -> str:
    """Return the id of a call; Mistral's templates take no others than of nine signs."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return digest[:9] if style == "mistral" else f"call_{digest[:24]}"
