"""Converts tokens to bytes; one character can span several tokens."""

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
    """Return the bytes of one token; special tokens have bytes too.

    The bytes of a text's tokens concatenate to the text, with a leading space if the tokenizer adds
    one to every text. An id without a token has no bytes.
    """
    encoding = _token_encoding(tokenizer)
    if token_id in encoding.added:
        return encoding.added[token_id].encode()
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return b""
    if encoding.byte_level:
        return bytes(_BYTE_OF_CHARACTER[character] for character in piece)
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes.fromhex(byte[1])
    text = piece.replace(_SPACE, " ") if encoding.spaces else tokenizer.decode([token_id])
    return bytes(text, "utf-8")


@dataclass(frozen=True, slots=True)
class _TokenEncoding:
    """The encoding of bytes in a vocabulary's entries.

    Attributes:
        added: The texts of added and special tokens, which are not encoded, by id.
        byte_level: Whether each byte is one character (GPT-2's table).
        spaces: Whether a space is ``▁`` and a single byte ``<0xE2>`` (SentencePiece).
    """

    added: dict[int, str]
    byte_level: bool
    spaces: bool


@lru_cache(maxsize=4)
def _token_encoding(tokenizer: Any) -> _TokenEncoding:
    decoder = str(tokenizer.backend_tokenizer.decoder) if tokenizer.is_fast else ""
    return _TokenEncoding(
        added={i: token.content for i, token in tokenizer.added_tokens_decoder.items()},
        byte_level="ByteLevel" in decoder,
        spaces=_SPACE in decoder,
    )
