"""Feedback tokens: each lets a browser vote on one reply for a while, and do nothing else.

A token is signed with a secret that all replicas read from Redis. It says which reply and whose it
is, and when it was made. itsdangerous signs it and reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from feedback.errors import StoreUnavailableError
from service.errors import NotReadyError, UnauthorizedError
from service.timeouts import within

if TYPE_CHECKING:
    from datetime import timedelta

    from feedback.store import Store
    from feedback.types import Person

PREFIX = "tlf_"


@dataclass(frozen=True, slots=True)
class TokenClaim:
    """What a token lets its bearer vote on."""

    completion_id: str
    owner: str
    user: str


class FeedbackTokens:
    """Makes and reads feedback tokens.

    Args:
        store: Has the secret.
        lifetime: How long a token counts; zero makes none.
        patience: How long to wait for Redis.
    """

    def __init__(self, store: Store, lifetime: timedelta, patience: timedelta) -> None:
        self._store, self._patience = store, patience
        self._seconds = int(lifetime.total_seconds())
        self._signer: URLSafeTimedSerializer | None = None

    async def prepare(self) -> None:
        """Read the secret, unless it is known or no tokens are made.

        Raises:
            StoreUnavailableError: Redis is away.
        """
        if self._signer is None and self._seconds:
            secret = await within(self._patience, self._store.token_secret.get())
            self._signer = URLSafeTimedSerializer(secret, salt="feedback")

    def make(self, completion_id: str, person: Person) -> str | None:
        """Return a token for a reply; None where none are made, or before ``prepare``."""
        if self._signer is None:
            return None
        signed = self._signer.dumps([completion_id, person.owner, person.user])
        return f"{PREFIX}{signed}"

    async def read(self, token: str) -> TokenClaim:
        """Return what a token lets its bearer do.

        Raises:
            UnauthorizedError: It was not made here, or is too old.
            NotReadyError: Redis is away, and the secret is not known.
        """
        try:
            await self.prepare()
        except StoreUnavailableError as error:
            raise NotReadyError(
                "Redis is away, so this token cannot be checked. Try again in a moment.",
                code="store_unavailable",
            ) from error
        if self._signer is None:
            raise UnauthorizedError("This server takes no feedback tokens.")
        try:
            parts = self._signer.loads(token.removeprefix(PREFIX), max_age=self._seconds)
        except SignatureExpired as error:
            raise UnauthorizedError(
                "This feedback token has expired: it lets nobody vote any more."
            ) from error
        except BadSignature as error:
            raise UnauthorizedError("This feedback token was not made by this server.") from error
        return TokenClaim(*parts)
