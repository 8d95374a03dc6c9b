"""The bytes that a token stands for; a character can be made up of several tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

_SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTE_OF_CHARACTER: dict[str, int] = {c: byte for byte, c in bytes_to_unicode().items()}


def token_bytes(tokenizer: Any, token_id: int) -> bytes:
    """Return the bytes of one token, special tokens included.

    The bytes of a text's tokens join to the text; only where a tokenizer puts a space before every
    text is there one more. An id without a token has no bytes.
    """
    spelling = _spelling(tokenizer)
    if token_id in spelling.added:
        return spelling.added[token_id].encode()
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return b""
    if spelling.byte_level:
        return bytes(_BYTE_OF_CHARACTER[character] for character in piece)
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes.fromhex(byte[1])
    text = piece.replace(_SPACE, " ") if spelling.spaces else tokenizer.decode([token_id])
    return bytes(text, "utf-8")


@dataclass(frozen=True, slots=True)
class _TokenEncoding:
    """How a vocabulary spells its tokens.

    Attributes:
        added: Tokens that are spelled as they are, special ones among them.
        byte_level: Each byte is a character of its own (GPT-2's table).
        spaces: A space is ``▁``, and a byte alone ``<0xE2>`` (SentencePiece).
    """

    added: dict[int, str]
    byte_level: bool
    spaces: bool


@lru_cache(maxsize=4)
def _spelling(tokenizer: Any) -> _TokenEncoding:
    decoder = str(tokenizer.backend_tokenizer.decoder) if tokenizer.is_fast else ""
    return _TokenEncoding(
        added={i: token.content for i, token in tokenizer.added_tokens_decoder.items()},
        byte_level="ByteLevel" in decoder,
        spaces=_SPACE in decoder,
    )
