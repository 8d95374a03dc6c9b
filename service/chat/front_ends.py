"""What front ends say of a chat request in headers of their own.

Open WebUI sends them where ``ENABLE_FORWARD_USER_INFO_HEADERS`` is set. They are believed as far as
the body is: whoever has the key may name any of its users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 256


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """What the headers say; empty where they say nothing.

    Attributes:
        user: The user's id there.
        chat: The conversation's id there.
        message: The id by which a vote may name the reply: that of the chat and of the message.
        is_task: Whether the front end asks for itself, for a title or tags, and nobody can vote.
    """

    user: str = ""
    chat: str = ""
    message: str = ""
    is_task: bool = False


def read_headers(headers: Mapping[str, str]) -> FrontEnd:
    """Return what the headers of a chat request say of its front end."""
    chat, message = (_value(headers, f"x-openwebui-{each}-id") for each in ("chat", "message"))
    return FrontEnd(
        user=_value(headers, "x-openwebui-user-id"),
        chat=chat,
        message=f"{chat}:{message}" if chat and message else "",
        is_task=bool(_value(headers, "x-openwebui-task")),
    )


def _value(headers: Mapping[str, str], name: str) -> str:
    return unquote(headers.get(name, "")).strip()[:_LONGEST]
