"""Who is calling: API keys, open mode, and what each caller may do."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from feedback.errors import StoreUnavailableError
from feedback.types import OPEN_OWNER, Person
from service.errors import (
    ConfigurationError,
    ForbiddenError,
    NotReadyError,
    UnauthorizedError,
)
from service.runtime.feedback_tokens import PREFIX
from service.settings import is_loopback
from service.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feedback.store import Store
    from feedback.types import ApiKey, Scope
    from service.following.last_known import LastKnown
    from service.runtime.feedback_tokens import FeedbackTokens, TokenClaim
    from service.settings import ServiceSettings

GRACE_SECONDS = 3600.0
"""How long a key that was seen keeps working while Redis is away."""

MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: an API key, ``open`` where there are none, or the bearer of a token.

    Attributes:
        only: Of a feedback token, the one reply that may be voted on, and whose it is.
    """

    owner: str
    scopes: frozenset[Scope]
    only: TokenClaim | None = None

    def person(self, user: str | None) -> Person:
        """Return whose completion it is when this caller names ``user``.

        Raises:
            ForbiddenError: A token is of another user.
        """
        if self.only is None:
            return Person(self.owner, user or "")
        if user not in {None, "", self.only.user}:
            raise ForbiddenError(
                "This feedback token is of another user: leave `user` out.", code="wrong_token"
            )
        return Person(self.owner, self.only.user)

    def check_reply(self, path: str) -> None:
        """Refuse what a feedback token is not for.

        Raises:
            ForbiddenError: The path is not that of the vote or the signals of the token's reply.
        """
        only = self.only
        if only is not None and path not in {f"{each}{only.completion_id}" for each in OF_REPLIES}:
            raise ForbiddenError(
                f"This feedback token lets its bearer vote on {only.completion_id}, and "
                "nothing else.",
                code="wrong_token",
            )

    def require(self, scope: Scope) -> None:
        """Raise ``ForbiddenError`` unless the caller has ``scope``."""
        if scope not in self.scopes:
            raise ForbiddenError(
                f"This API key lacks the scope {scope!r}. Use a key that was created with it.",
                code="insufficient_scope",
            )


OF_REPLIES = ("/v1/feedback/", "/v1/signals/")
"""How paths begin that a feedback token opens, for its reply."""

OPEN = Caller(OPEN_OWNER, frozenset({"chat", "admin"}))


class Authenticator:
    """Finds out who calls.

    With no key configured every request of this machine is served (open mode). Once a key was
    seen to exist the server asks for keys until it ends, even if all of them are revoked.
    """

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        last_known: LastKnown,
        tokens: FeedbackTokens,
    ) -> None:
        self._store, self._tokens = store, tokens
        self._settings = settings
        self._last_known = last_known
        self._seen: OrderedDict[bytes, tuple[ApiKey, float]] = OrderedDict()
        self._checks: dict[bytes, asyncio.Future[ApiKey]] = {}
        self.keyed: bool | None = None

    async def refresh(self) -> None:
        """Ask Redis whether keys exist; without Redis, believe what was remembered.

        Raises:
            ConfigurationError: None exists, and other machines can reach the server.
        """
        if self.keyed:
            return
        try:
            self.keyed = await within(self._settings.record_timeout, self._store.keys.any())
        except StoreUnavailableError:
            if self.keyed is None:
                self.keyed = self._last_known.keyed
        else:
            self._last_known.remember(keyed=self.keyed)
        if not self._settings.on_loopback:
            self._refuse_open()

    def _refuse_open(self) -> None:
        if self.keyed is False:
            raise ConfigurationError(
                f"THUMBLOOP_HOST is {self._settings.host}, which other machines can reach, but "
                "no API key exists. Create one with `thumbloop keys create`, or set "
                "THUMBLOOP_HOST=127.0.0.1."
            )

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return who sent a request with these headers.

        Raises:
            UnauthorizedError: A key is needed, and there is none or it is not valid.
            NotReadyError: The key cannot be checked now.
        """
        if self.keyed is None:
            raise NotReadyError(
                "Redis is away, so the server does not know yet whether API keys exist. Try again "
                "in a moment.",
                code="store_unavailable",
            )
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if key.strip().startswith(PREFIX):
            claim = await self._tokens.read(key.strip())
            return Caller(claim.owner, frozenset({"chat"}), only=claim)
        if not self.keyed:
            return OPEN
        if scheme.lower() != "bearer" or not key.strip():
            raise UnauthorizedError(
                "Send an API key in the header `Authorization: Bearer tl_...`. "
                "`thumbloop keys create` makes one."
            )
        found = await self._verify(key.strip())
        return Caller(found.public_id, found.scopes)

    async def _verify(self, key: str) -> ApiKey:
        """Check a key; requests with the same one that come meanwhile share the answer.

        A front end has one key for all its users, and a check of its own for each of their requests
        would cost as much as the request.
        """
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        check = self._checks.get(digest)
        if check is None:
            check = self._checks[digest] = asyncio.ensure_future(self._check(key, digest))
            check.add_done_callback(lambda _: self._checks.pop(digest))
        # Whoever leaves must not take the answer from the others.
        return await asyncio.shield(check)

    async def _check(self, key: str, digest: bytes) -> ApiKey:
        try:
            found = await within(self._settings.record_timeout, self._store.keys.verify(key))
        except StoreUnavailableError:
            return self._recall(digest)
        if found is None:
            self._seen.pop(digest, None)
            raise UnauthorizedError("This API key is unknown or was revoked.")
        self._seen[digest] = (found, time.monotonic())
        self._seen.move_to_end(digest)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return found

    def _recall(self, digest: bytes) -> ApiKey:
        found, seen_at = self._seen.get(digest, (None, 0.0))
        if found is None or time.monotonic() - seen_at > GRACE_SECONDS:
            raise NotReadyError(
                "Redis is away, so this API key cannot be checked. Try again in a moment.",
                code="store_unavailable",
            )
        return found

    def check_browser(self, headers: Mapping[str, str]) -> None:
        """In open mode, refuse what a web page elsewhere makes a browser send.

        The Host must mean this machine (a rebound DNS name does not), and the Origin, where one
        is sent, must be the server itself or one of the allowed ones.

        Raises:
            ForbiddenError: They are not.
        """
        if self.keyed is not False:
            return
        host = headers.get("host", "")
        name = _name_of(host)
        if name != self._settings.host and not is_loopback(name):
            raise ForbiddenError(
                f"Without API keys the server answers only to this machine's own names, not to "
                f"{host!r}. Call it as http://127.0.0.1, or create a key.",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is None:
            return
        if origin not in {f"http://{host}", f"https://{host}", *self._settings.cors_origins}:
            raise ForbiddenError(
                f"Without API keys, pages of {origin!r} may not call the server. Add the origin to "
                "THUMBLOOP_CORS_ORIGINS, or create a key.",
                code="origin_not_allowed",
            )


@lru_cache(maxsize=64)
def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
