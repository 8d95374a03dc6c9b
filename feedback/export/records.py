"""One vote with all that is recorded about it, to and from a row of the layout ``records``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from feedback.errors import InvalidVoteError
from feedback.export.row import COLUMNS, RecordRow
from feedback.types import Completion, Person, Vote
from feedback.vote_record import TOMBSTONES, VoteRecord

if TYPE_CHECKING:
    from models.types import Message


class BadRowError(ValueError):
    """A row is not a vote of an export; the message gives the column and the reason."""


_VOTE = TypeAdapter(Vote)
_COMPLETION = TypeAdapter(Completion)
_OF_RECORD = [name for name in COLUMNS if name in VoteRecord.__dataclass_fields__]
_OF_COMPLETION = {name for name in COLUMNS if name in Completion.__dataclass_fields__}


def as_row(record: VoteRecord) -> dict[str, Any]:
    """Return the row of a record, columns in the order of ``COLUMNS``."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    if record.completion is not None:
        row |= _COMPLETION.dump_python(record.completion, mode="json", include=_OF_COMPLETION)
        row["reply"] = record.completion.text
        row["metadata"] = record.completion.metadata  # pydantic replaces some letters of keys
    if record.vote is not None:
        row |= _VOTE.dump_python(record.vote, mode="json")
    if record.person is not None:
        row |= asdict(record.person)
    return row | {name: getattr(record, name) for name in _OF_RECORD}


def as_messages(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Return messages as OpenAI's API and TRL write them."""
    return [{"role": each.role, "content": each.content} for each in messages]


def from_row(row: object) -> VoteRecord:
    """Return the record of a row.

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
    """Return what is wrong with the first bad column, and how many more are bad."""
    errors = error.errors(include_url=False)
    where = ".".join(map(str, errors[0]["loc"]))
    reason = errors[0]["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {reason}{more}" if where else reason + more


def _record(row: RecordRow) -> VoteRecord:
    if row.state in TOMBSTONES:
        return VoteRecord(row.id, row.state, row.revision, row.updated_at, row.learned_by)
    values = row.model_dump()
    person = Person(values["owner"], values["user"])
    reply = None
    if row.messages is not None:
        reply = _COMPLETION.validate_python(values | {"person": person, "text": row.reply})
    own = {name: values[name] for name in _OF_RECORD}
    return VoteRecord(**own, person=person, vote=_VOTE.validate_python(values), completion=reply)
