"""API keys: ``tl_<public id>_<secret>``, of which only a hash of the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.codec import HashCodec, flat
from feedback.types import ApiKey

if TYPE_CHECKING:
    import builtins

    from feedback.store.client import Client
    from feedback.types import Scope

_CODEC = HashCodec(ApiKey)

_KEY = re.compile(r"tl_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NO_HASH = "0" * 64


class ApiKeys:
    """The API keys of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(
        self, name: str, scopes: frozenset[Scope], *, now: float
    ) -> tuple[ApiKey, str]:
        """Create a key; the whole key is returned here and can never be read again."""
        secret = secrets.token_urlsafe(32)
        created = False
        while not created:
            key = ApiKey(secrets.token_hex(8), name, scopes, now)
            created = bool(
                await self._client.durable_script(
                    "key_create",
                    [keys.api_key(key.public_id), keys.API_KEYS],
                    [key.public_id, *flat(_CODEC.encode(key) | {"hash": _hash(secret)})],
                )
            )
        return key, f"tl_{key.public_id}_{secret}"

    async def verify(self, key: str) -> ApiKey | None:
        """Return the key that was presented; None if it is unknown, malformed or revoked.

        The time it takes does not depend on how much of the secret is right.
        """
        parts = _KEY.fullmatch(key)
        if parts is None:
            return None
        found = await self._client.hash(keys.api_key(parts[1]))
        right = hmac.compare_digest(found.get("hash", _NO_HASH), _hash(parts[2]))
        if not right or not found:
            return None
        known = _CODEC.decode(found)
        return None if known.revoked else known

    async def list(self) -> builtins.list[ApiKey]:
        """Return all keys, revoked ones too, oldest first."""
        ids = await self._client.command("SMEMBERS", keys.API_KEYS)
        found = await self._client.hashes([keys.api_key(each) for each in ids])
        return sorted(map(_CODEC.decode, found), key=lambda key: (key.created_at, key.public_id))

    async def revoke(self, public_id: str) -> bool:
        """Revoke a key for good; False if there is none of that public id."""
        return bool(await self._client.durable_script("key_revoke", [keys.api_key(public_id)]))

    async def any(self) -> bool:
        """Whether a key was ever created; revoking the last one does not open the server."""
        return bool(await self._client.command("SCARD", keys.API_KEYS))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
