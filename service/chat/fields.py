"""What becomes of the fields of a chat request that its schema does not know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from service.errors import InvalidRequestError
from service.schemas.bodies import NEUTRAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.schemas.bodies import Lenient
    from service.schemas.sampled import Sampled

HEADER = "x-ignored-fields"
_SHOWN = 20


def ignored_fields(body: Sampled, *, refuse: bool) -> tuple[str, ...]:
    """Return the names of the fields that are ignored.

    Args:
        body: The request.
        refuse: Whether unknown fields are refused instead.

    Raises:
        InvalidRequestError: A field of OpenAI's would change the reply and is not supported, or an
            unknown one is refused.
    """
    names = list(_unknown(body))
    refused = [each for each in names if refuse or each.rpartition(".")[2] in NEUTRAL]
    if refused:
        raise InvalidRequestError(
            f"`{refused[0]}` is not supported here, or not with this value: leave it out.",
            code="unsupported_parameter",
            param=refused[0],
        )
    return tuple(names)


def as_headers(ignored: tuple[str, ...]) -> dict[str, str]:
    """Return the header that names what is ignored; none where nothing is."""
    if not ignored:
        return {}
    # A name may hold whatever JSON can: quotes and escapes keep it within its header.
    shown = (json.dumps(each)[1:-1][:100] for each in ignored[:_SHOWN])
    return {HEADER: ", ".join(shown)}


def _unknown(body: Sampled) -> Iterator[str]:
    yield from _of(body, "")
    yield from _of(body.stream_options, "stream_options.")
    for number, message in enumerate(getattr(body, "messages", ())):
        yield from _of(message, f"messages.{number}.")


def _of(part: Lenient, prefix: str) -> Iterator[str]:
    return (prefix + name for name in part.model_extra or ())
