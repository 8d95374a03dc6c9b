"""A prefix cache: KV blocks of earlier prompts, found by the token ids that they hold."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BlockT = TypeVar("BlockT")


class PrefixCache(Generic[BlockT]):
    """A least-recently-used cache of KV blocks, bounded in bytes; imports no torch.

    A block holds ``block_tokens`` positions. The key of a block is a SHA-256 chain over the policy
    version and all token ids up to the end of the block. A lookup therefore finds a block only with
    exactly the same tokens, under the same version.

    A cached block reveals nothing of another user's prompt except through timing: a user who
    guesses the first block of a prompt sees a faster first token if that prompt was served
    recently. Share one cache among users only where that is acceptable.

    Args:
        capacity_bytes: The most bytes of all blocks together; 0 turns reuse off.
        block_bytes: The bytes of one block.
        block_tokens: The positions of one block.
    """

    def __init__(self, *, capacity_bytes: int, block_bytes: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._block_bytes = block_bytes
        self._capacity = capacity_bytes // block_bytes
        # The least recently used block comes first. A block comes before its parent, so that the
        # blocks left of a chain after evictions can still be reached from its start.
        self._blocks: OrderedDict[bytes, tuple[str, BlockT]] = OrderedDict()

    @property
    def bytes_held(self) -> int:
        """The bytes of all cached blocks."""
        return len(self._blocks) * self._block_bytes

    def match(self, version: str, ids: Sequence[int], most: int) -> list[BlockT]:
        """Return the cached blocks of the longest known prefix of ``ids``, in order.

        Args:
            version: The policy version that computed the keys and values.
            ids: The token ids of a row.
            most: The most positions that the blocks may cover.
        """
        known = []
        for key in self._chain(version, ids[: max(most, 0)]):
            if key not in self._blocks:
                break
            known.append(key)
        self._touch(known)
        return [self._blocks[key][1] for key in known]

    def store(self, version: str, ids: Sequence[int], read: Callable[[int], BlockT]) -> None:
        """Cache the whole blocks of ``ids``, as many as fit.

        Args:
            version: The policy version that computed the keys and values.
            ids: The token ids of a row, all of them prefilled or decoded.
            read: Returns the block that starts at a position; called only for blocks that are not
                cached yet.
        """
        keys = list(self._chain(version, ids))[: self._capacity]
        known = [key for key in keys if key in self._blocks]
        self._touch(known)
        while len(self._blocks) + len(keys) - len(known) > self._capacity:
            self._blocks.popitem(last=False)
        starts = range(len(known) * self.block_tokens, len(ids), self.block_tokens)
        fresh = zip(keys[len(known) :], starts, strict=False)
        blocks = {key: (version, read(start)) for key, start in fresh}
        self._blocks.update(blocks)
        self._touch(keys)

    def forget(self, version: str) -> None:
        """Drop the blocks of a version whose weights were freed."""
        for key in [key for key, (owner, _) in self._blocks.items() if owner == version]:
            del self._blocks[key]

    def _chain(self, version: str, ids: Sequence[int]) -> Iterator[bytes]:
        """Yield the key of each whole block of ``ids``, hashed from the key before it."""
        key = hashlib.sha256(version.encode()).digest()
        for end in range(self.block_tokens, len(ids) + 1, self.block_tokens):
            block = array("q", ids[end - self.block_tokens : end])
            key = hashlib.sha256(key + block.tobytes()).digest()
            yield key

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Mark the blocks of a chain as most recently used, each parent after its child."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)
