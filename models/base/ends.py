"""The token ids that end a reply: those that the model declares, and that of its chat template."""

from __future__ import annotations

import logging
from typing import Any

from jinja2 import TemplateError

logger = logging.getLogger(__name__)

_SAID = "zq7reply7qz"
"""A text that no template has."""


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end a reply.

    A model may lack its generation configuration, or name another end than the one that its
    template writes behind each turn. Such a model would write the next turns itself.
    """
    declared = model.generation_config.eos_token_id
    found = set(declared) if isinstance(declared, list) else {declared}
    found |= {tokenizer.eos_token_id, turn_end(tokenizer)}
    ends = frozenset(each for each in found if each is not None)
    if not ends:
        logger.warning(
            "No token ends a reply of this model: neither its configuration nor its chat template "
            "has one, so that every reply goes on until max_tokens."
        )
    return ends


def reply_end(tokenizer: Any, ends: frozenset[int]) -> tuple[int, ...]:
    """Return the token that ends a reply where one is written down; none where none ends it.

    It is the one that the chat template writes, which need not be the tokenizer's own.
    """
    for each in (turn_end(tokenizer), tokenizer.eos_token_id, *sorted(ends)):
        if each is not None:
            return (each,)
    return ()


def turn_end(tokenizer: Any) -> int | None:
    """Return the control token that the chat template writes right behind a reply, if any."""
    conversation = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": _SAID},
    ]
    try:
        text = str(tokenizer.apply_chat_template(conversation, tokenize=False))
    except TemplateError:
        return None
    _, found, behind = text.rpartition(_SAID)
    ids = tokenizer(behind.lstrip(), add_special_tokens=False)["input_ids"] if found else []
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return ids[0] if ids and ids[0] in control | set(tokenizer.all_special_ids) else None
