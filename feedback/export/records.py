"""One vote with all that is recorded about it, and its spelling as a row of the layout ``records``.

The columns are those of ``RecordRow``; what an import takes is checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from feedback.errors import InvalidVoteError
from feedback.export.row import TOMBSTONES, RecordRow
from feedback.types import Comparison, Completion, Person, Vote
from models.types import Message, Sampling

if TYPE_CHECKING:
    from feedback.export.row import MessagePart, RecordState, SamplingPart
    from models.types import FinishReason


class BadRowError(ValueError):
    """A row is no vote of an export; the message gives the column and the reason."""


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """One vote, or what is left of it, as an export knows it. Times are seconds since the epoch.

    Attributes:
        revision: Rises with every change of the vote.
        version: The version that wrote the reply.
        scored_revision: The revision that last changed the score.
        voted_at: When the score last changed; waiting votes stand in this order.
        learned_by: The version that learned the vote; of a tombstone, the one that had.
        returned: How often it went back to waiting, as a version was refused or taken back.
        completion: The reply; None once it has expired.
    """

    id: str
    state: RecordState
    revision: int
    updated_at: float
    learned_by: str | None = None
    person: Person | None = None
    version: str | None = None
    vote: Vote | None = None
    score: float | None = None
    scored_revision: int | None = None
    voted_at: float | None = None
    reason: str | None = None
    returned: int = 0
    completion: Completion | None = None


_OWN = (
    "id",
    "state",
    "revision",
    "updated_at",
    "learned_by",
    "version",
    "score",
    "scored_revision",
    "voted_at",
    "reason",
    "returned",
)
COLUMNS = tuple(RecordRow.model_fields)


def as_row(record: VoteRecord) -> dict[str, Any]:
    """Return the row that spells a record, columns in the order of ``COLUMNS``."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: getattr(record, name) for name in _OWN}
    if record.person is not None:
        row |= {"owner": record.person.owner, "user": record.person.user}
    if record.vote is not None:
        row |= _vote_columns(record.vote)
    if record.completion is not None:
        row |= _completion_columns(record.completion)
    return row


def _vote_columns(vote: Vote) -> dict[str, Any]:
    compared = vote.comparison
    return {
        "thumb": vote.thumb,
        "rating": vote.rating,
        "comparison": compared and {"side": compared.side, "other": compared.other},
        "comment": vote.comment,
        "tags": list(vote.tags),
        "correction": vote.correction,
    }


def _completion_columns(reply: Completion) -> dict[str, Any]:
    sampling = reply.sampling
    return {
        "conversation": reply.conversation,
        "messages": as_messages(reply.messages),
        "reply": reply.text,
        "finish_reason": reply.finish_reason,
        "prompt_ids": list(reply.prompt_ids),
        "response_ids": list(reply.response_ids),
        "behaviour_logprobs": list(reply.behaviour_logprobs),
        "sampling": {
            "temperature": float(sampling.temperature),
            "top_p": float(sampling.top_p),
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "seed": sampling.seed,
            "top_k": sampling.top_k,
        },
        "metadata": reply.metadata,
        "created_at": reply.created_at,
    }


def as_messages(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Return messages as OpenAI's API and TRL spell them."""
    return [{"role": each.role, "content": each.content} for each in messages]


def from_row(row: object) -> VoteRecord:
    """Return the record that a row spells.

    Raises:
        BadRowError: It is no such row.
    """
    try:
        checked = RecordRow.model_validate(row)
        return _record(checked)
    except ValidationError as error:
        raise BadRowError(_first_reason(error)) from error
    except InvalidVoteError as error:
        raise BadRowError(str(error)) from error


def _first_reason(error: ValidationError) -> str:
    """Return what is wrong with the first column that is, and with how many more."""
    errors = error.errors(include_url=False)
    where = ".".join(map(str, errors[0]["loc"]))
    reason = errors[0]["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {reason}{more}" if where else reason + more


def _record(row: RecordRow) -> VoteRecord:
    if row.state in TOMBSTONES:
        return VoteRecord(row.id, row.state, row.revision, row.updated_at, row.learned_by)
    return VoteRecord(
        id=row.id,
        state=row.state,
        revision=row.revision,
        updated_at=row.updated_at,
        learned_by=row.learned_by,
        person=_person(row),
        version=row.version,
        vote=_vote(row),
        score=row.score,
        scored_revision=row.scored_revision,
        voted_at=row.voted_at,
        reason=row.reason,
        returned=row.returned,
        completion=None if row.messages is None else _completion(row, row.messages),
    )


def _person(row: RecordRow) -> Person:
    return Person(cast("str", row.owner), cast("str", row.user))


def _vote(row: RecordRow) -> Vote:
    compared = row.comparison
    return Vote(
        thumb=row.thumb,
        rating=row.rating,
        comment=row.comment,
        tags=tuple(row.tags or ()),
        correction=row.correction,
        comparison=Comparison(compared.side, compared.other) if compared else None,
    )


def _completion(row: RecordRow, messages: list[MessagePart]) -> Completion:
    sampling = cast("SamplingPart", row.sampling)
    return Completion(
        id=row.id,
        person=_person(row),
        conversation=cast("str", row.conversation),
        version=cast("str", row.version),
        messages=tuple(Message(each.role, each.content) for each in messages),
        text=cast("str", row.reply),
        prompt_ids=tuple(row.prompt_ids or ()),
        response_ids=tuple(row.response_ids or ()),
        behaviour_logprobs=tuple(row.behaviour_logprobs or ()),
        sampling=Sampling(**{**sampling.model_dump(), "stop": tuple(sampling.stop)}),
        finish_reason=cast("FinishReason", row.finish_reason),
        created_at=cast("float", row.created_at),
        metadata=row.metadata or {},
    )
