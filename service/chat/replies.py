"""Work on replies that a caller names: what is unknown is waited for, or explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from feedback.errors import UnknownCompletionError
from service.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.types import Person
    from service.runtime.runtime import Runtime

T = TypeVar("T")


def external(external_id: str) -> str:
    """Return the name under which a reply in flight waits that a front end has an id for."""
    return f"external:{external_id}"


async def find_external(runtime: Runtime, person: Person, external_id: str) -> str:
    """Return the id of the reply that a front end knows by an id of its own.

    A reply that is being written is waited for.

    Raises:
        NotFoundError: This person has no such reply.
    """
    await runtime.in_flight.ended(external(external_id), person)
    found = await runtime.store.external.find(external_id, person)
    if found is None:
        raise NotFoundError(
            f"No reply of yours has the external id {external_id!r}. It is what the chat request "
            "said as `metadata.external_id`, or chat id and message id with a colon between them. "
            "Check that the user is the same, too.",
            code="completion_not_found",
        )
    return found


async def on_replies(
    runtime: Runtime,
    person: Person,
    ids: tuple[str, ...],
    work: Callable[[], Awaitable[T]],
    *,
    wait: bool = False,
) -> T:
    """Return what some work on replies returns.

    Args:
        runtime: The application's parts.
        person: Whose replies they are.
        ids: The ids of the replies.
        work: Is done again where a reply had not ended.
        wait: Whether to wait for replies that are being written.

    Raises:
        NotFoundError: The caller has no such reply.
    """
    try:
        return await work()
    except UnknownCompletionError as error:
        if not (wait and any([await runtime.in_flight.ended(each, person) for each in ids])):
            raise await _explained(runtime, error, person, ids) from error
    try:
        return await work()
    except UnknownCompletionError as error:
        raise await _explained(runtime, error, person, ids) from error


async def _explained(
    runtime: Runtime, error: UnknownCompletionError, person: Person, ids: tuple[str, ...]
) -> NotFoundError:
    """Return the refusal of a request that names replies of which at least one is unknown."""
    firsts = [f"{each}.0" for each in ids]
    for each, first in zip(ids, await runtime.store.completions.get_many(firsts), strict=True):
        if first is not None and first.person == person:
            return NotFoundError(
                f"{each!r} is a request with several replies: name one of them, {each}.0, "
                f"{each}.1 and so on, as `choices[].completion_id` has it.",
                code="completion_not_found",
            )
    return runtime.unrecorded.explain(error, person, *ids)
