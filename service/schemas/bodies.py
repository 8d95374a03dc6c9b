"""How strictly request bodies are read, and what of a chat client's fields is let through.

A field of OpenAI's API that would change the reply and is not supported here is refused. It is let
through where its value asks for nothing (``functions: []``), or where no value can change the reply
(``prompt_cache_key``). A null asks for the default, at any depth. ``service.chat.fields`` says what
becomes of fields that neither knows.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": ({},),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "prediction": (),
    "reasoning_effort": ("none",),
    "suffix": ("",),
    "web_search_options": (),
    # Of an assistant's message, sent back as the client got it.
    "annotations": ([],),
}
"""OpenAI's fields that are not supported, and the values of them that ask for nothing."""

WITHOUT_EFFECT = frozenset(
    {
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
        "verbosity",
        # Of a message.
        "name",
        "refusal",
    }
)
"""OpenAI's fields that cannot change a reply here."""

_SCHEMAS = frozenset({"schema", "parameters"})


def without_nulls(data: Any) -> Any:
    """Drop the nulls of objects at any depth: they ask for the default. Schemas keep theirs."""
    if isinstance(data, list):
        return [without_nulls(each) for each in data]
    if isinstance(data, dict):
        return {
            name: value if name in _SCHEMAS else without_nulls(value)
            for name, value in data.items()
            if value is not None
        }
    return data


def without_neutral(data: Any) -> Any:
    """Drop nulls, fields that ask for nothing, and fields that cannot change the reply."""
    if not isinstance(data, dict):
        return data
    return {
        name: value
        for name, value in without_nulls(data).items()
        if value not in NEUTRAL.get(name, ()) and name not in WITHOUT_EFFECT
    }


def whole_text(data: Any) -> Any:
    """Refuse half of a surrogate pair: JSON can hold it, but no tokenizer or store takes it."""
    if not isinstance(data, dict):
        return data
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "The text holds half of a surrogate pair; send whole characters."
        ) from error
    except RecursionError as error:
        raise ValueError("The body is nested too deeply.") from error
    return data


class Body(BaseModel):
    """Base of all request bodies: no unknown fields, no conversions, valid Unicode."""

    model_config = ConfigDict(extra="forbid", strict=True)

    _whole = model_validator(mode="before")(whole_text)


class Lenient(Body):
    """Base of what chat clients send: unknown fields are kept aside in ``model_extra``."""

    model_config = ConfigDict(extra="allow", strict=True)

    _lenient = model_validator(mode="before")(without_neutral)
