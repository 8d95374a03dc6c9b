from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from models.decoding.text import TextStream

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> object:
    return AutoTokenizer.from_pretrained(tiny_folder)


def _ids(tokenizer: object, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]


def test_pieces_join_to_the_whole_and_no_piece_holds_half_a_character(tokenizer: object) -> None:
    text = "Grüße 👩‍👩‍👧 aus 東京, naïve café — done."

    @settings(max_examples=40, deadline=None)
    @given(st.text(max_size=30))
    def check(extra: str) -> None:
        stream = TextStream(tokenizer, ())
        ids = _ids(tokenizer, text + extra)
        pieces = [stream.push(i) for i in ids] + [stream.finish()]
        whole = tokenizer.decode(ids, skip_special_tokens=True)  # type: ignore[attr-defined]
        assert "".join(pieces) == whole
        if "\ufffd" not in whole:
            assert not any("\ufffd" in piece for piece in pieces)

    check()


def test_nothing_past_a_stop_string_is_sent(tokenizer: object) -> None:
    stream = TextStream(tokenizer, ("END",))
    sent = ""
    for token in _ids(tokenizer, "one two END three"):
        sent += stream.push(token)
        if stream.stopped:
            break
    assert stream.stopped
    assert sent == "one two "


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_clear(tokenizer: object) -> None:
    stream = TextStream(tokenizer, ("wonderful",))
    pieces = [stream.push(t) for t in _ids(tokenizer, "a won")]
    assert "".join(pieces) == "a "
    assert stream.finish() == "won"
    assert not stream.stopped


def test_special_tokens_have_no_text(tokenizer: object) -> None:
    stream = TextStream(tokenizer, ())
    assert stream.push(tokenizer.eos_token_id) + stream.finish() == ""  # type: ignore[attr-defined]


def test_control_tokens_are_text_only_where_they_are_shown(tokenizer: object) -> None:
    ids = _ids(tokenizer, "<|im_start|>a<|im_end|>")
    assert len(ids) == 3
    for shown, expected in (((), "a"), (("<|im_end|>",), "a<|im_end|>")):
        stream = TextStream(tokenizer, (), shown)
        assert "".join([*map(stream.push, ids), stream.finish()]) == expected
