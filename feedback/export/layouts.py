"""The layouts of an export, as rows for JSON: pure.

``kto``, ``preference``, ``reward`` and ``sft`` are what TRL calls conversational datasets of the
types unpaired preference, preference (explicit prompt), preference (implicit prompt) and
prompt-completion: https://huggingface.co/docs/trl/v1.9.0/dataset_formats. ``triplets`` has input
and output as TensorZero stores inferences:
https://www.tensorzero.com/docs/gateway/api-reference/datasets-datapoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from feedback.export.records import as_messages, as_row
from feedback.export.row import MessagePart, RecordRow

if TYPE_CHECKING:
    from feedback.export.pairs import PreferencePair
    from feedback.vote_record import VoteRecord
    from models.types import Message

Layout = Literal["records", "kto", "preference", "reward", "sft", "triplets"]
Format = Literal["jsonl", "parquet"]
Row = dict[str, Any]


class KtoRow(TypedDict):
    """A reply, and whether it was liked."""

    prompt: list[MessagePart]
    completion: list[MessagePart]
    label: bool


class PreferenceRow(TypedDict):
    """A better and a worse reply to one prompt."""

    prompt: list[MessagePart]
    chosen: list[MessagePart]
    rejected: list[MessagePart]


class RewardRow(TypedDict):
    """The same, with the prompt in both."""

    chosen: list[MessagePart]
    rejected: list[MessagePart]


class SftRow(TypedDict):
    """A reply that is worth imitating."""

    prompt: list[MessagePart]
    completion: list[MessagePart]


class TextBlock(TypedDict):
    """A piece of what was said."""

    type: str
    text: str


class SpokenMessage(TypedDict):
    """A message in blocks."""

    role: str
    content: list[TextBlock]


class TripletInput(TypedDict):
    """The prompt, the system's text apart."""

    system: str | None
    messages: list[SpokenMessage]


class TripletRow(TypedDict):
    """Input, output and reward."""

    input: TripletInput
    output: list[TextBlock]
    reward: float


ROWS: dict[Layout, type] = {
    "records": RecordRow,
    "kto": KtoRow,
    "preference": PreferenceRow,
    "reward": RewardRow,
    "sft": SftRow,
    "triplets": TripletRow,
}
"""What a row of each layout holds."""

PAIRED: frozenset[Layout] = frozenset({"preference", "reward"})
"""Layouts whose rows are made of two replies."""


def single_rows(layout: Layout, record: VoteRecord) -> list[Row]:
    """Return the rows, none or one, that a vote makes in a layout that is not paired."""
    if layout == "records":
        return [as_row(record)]
    if record.completion is None:
        return []
    row = {"kto": _kto, "sft": _sft, "triplets": _triplet}[layout](record, record.completion.text)
    return [] if row is None else [row]


def pair_row(layout: Layout, pair: PreferencePair) -> Row:
    """Return the row that a pair makes in a paired layout."""
    prompt = as_messages(pair.prompt)
    chosen, rejected = [_reply(pair.chosen)], [_reply(pair.rejected)]
    if layout == "reward":
        return {"chosen": prompt + chosen, "rejected": prompt + rejected}
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _kto(record: VoteRecord, reply: str) -> Row | None:
    """Return prompt, completion and whether it was liked; None for a score of 0 or none."""
    if not record.score:
        return None
    return {**_prompt_completion(record, reply), "label": record.score > 0}


def _sft(record: VoteRecord, reply: str) -> Row | None:
    """Return the correction, or the reply if it was liked."""
    correction = record.vote.correction if record.vote else None
    if correction:
        return _prompt_completion(record, correction)
    return _prompt_completion(record, reply) if (record.score or 0) > 0 else None


def _triplet(record: VoteRecord, reply: str) -> Row | None:
    if record.score is None:
        return None
    system, turns = _split_system(_messages(record))
    spoken = [{"role": each.role, "content": _text_block(each.content)} for each in turns]
    return {
        "input": {"system": system, "messages": spoken},
        "output": _text_block(reply),
        "reward": record.score,
    }


def _split_system(messages: tuple[Message, ...]) -> tuple[str | None, tuple[Message, ...]]:
    """Return the text of the system messages, which TensorZero keeps apart, and the others."""
    system = [each.content for each in messages if each.role == "system"]
    return "\n\n".join(system) or None, tuple(each for each in messages if each.role != "system")


def _prompt_completion(record: VoteRecord, reply: str) -> Row:
    return {"prompt": as_messages(_messages(record)), "completion": [_reply(reply)]}


def _messages(record: VoteRecord) -> tuple[Message, ...]:
    return record.completion.messages if record.completion else ()


def _reply(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _text_block(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
