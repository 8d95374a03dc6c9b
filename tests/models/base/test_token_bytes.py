from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.base.token_bytes import token_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_folder)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=30))
@example(text=" été\n\t 漢字 🙂🏽  end ")
def test_the_bytes_of_a_texts_tokens_join_to_the_text(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    # This vocabulary lacks the bytes that the rarest characters begin with.
    assume(tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text)
    assert b"".join(token_bytes(tokenizer, i) for i in ids) == text.encode()


def test_a_part_of_a_character_has_its_own_bytes(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("🙂", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    parts = [token_bytes(tokenizer, i) for i in ids]
    assert b"".join(parts) == b"\xf0\x9f\x99\x82"
    assert all(parts)


def test_special_tokens_are_spelled_out(tokenizer: PreTrainedTokenizerBase) -> None:
    assert token_bytes(tokenizer, tokenizer.eos_token_id) == b"<|im_end|>"


def test_an_id_beyond_the_vocabulary_has_none(tokenizer: PreTrainedTokenizerBase) -> None:
    assert token_bytes(tokenizer, len(tokenizer) + 5) == b""


SENTENCEPIECE = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
)


@pytest.mark.parametrize("decoder", [SENTENCEPIECE, decoders.Metaspace()])
@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("<0xE2>", b"\xe2"),
        ("▁the", b" the"),
        ("é", b"\xc3\xa9"),
        ("<0xZZ>", b"<0xZZ>"),
        ("</s>", b"</s>"),
    ],
)
def test_sentencepieces_spelling_is_read(decoder: Any, piece: str, expected: bytes) -> None:
    vocabulary = {"<unk>": 0, "</s>": 1, "<0xE2>": 2, "▁the": 3, "é": 4, "<0xZZ>": 5}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoder
    found = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    assert token_bytes(found, vocabulary[piece]) == expected


def test_any_other_vocabulary_is_decoded() -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    found = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    assert token_bytes(found, 1) == b"play"
