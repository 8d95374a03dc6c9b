"""Reuse of what was prefilled before: KV blocks, found again by the tokens that they hold."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BlockT = TypeVar("BlockT")


class PrefixCache(Generic[BlockT]):
    """The most recently used KV blocks, within a bound of bytes; knows no device and no tensor.

    A block holds ``block_tokens`` positions. Its key is a SHA-256 chain over the policy version and
    all token ids up to the block's end, so a block is found only by who has exactly these tokens
    before it, under the version whose weights made it.

    A block therefore tells nobody anything that they did not send, except by the time that a first
    token takes: who can guess the first block of somebody else's prompt can notice that it was
    served lately. Share one cache among users only where that is acceptable.

    Args:
        capacity_bytes: The most that the blocks may take together; 0 turns reuse off.
        block_bytes: What one block takes.
        block_tokens: Positions of a block.
    """

    def __init__(self, *, capacity_bytes: int, block_bytes: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._block_bytes = block_bytes
        self._capacity = capacity_bytes // block_bytes
        # The least recently used block comes first; a block always comes before its parent, so that
        # what is left of a chain after evictions can still be reached from its start.
        self._blocks: OrderedDict[bytes, tuple[str, BlockT]] = OrderedDict()

    @property
    def bytes_held(self) -> int:
        """Bytes that the blocks take."""
        return len(self._blocks) * self._block_bytes

    def match(self, version: str, ids: Sequence[int], most: int) -> list[BlockT]:
        """Return the longest run of blocks known for the beginning of ``ids``, first block first.

        Args:
            version: Policy version that the keys and values must come from.
            ids: A row's tokens.
            most: How many positions the blocks may cover.
        """
        known = []
        for key in self._chain(version, ids[: max(most, 0)]):
            if key not in self._blocks:
                break
            known.append(key)
        self._touch(known)
        return [self._blocks[key][1] for key in known]

    def store(self, version: str, ids: Sequence[int], read: Callable[[int], BlockT]) -> None:
        """Keep the whole blocks of ``ids``, as many as fit.

        Args:
            version: Policy version that the keys and values come from.
            ids: A row's tokens, all of them prefilled or decoded.
            read: Returns the block that starts at a position; called for unknown blocks only.
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
        """Drop a version's blocks: its weights are gone."""
        for key in [key for key, (owner, _) in self._blocks.items() if owner == version]:
            del self._blocks[key]

    def _chain(self, version: str, ids: Sequence[int]) -> Iterator[bytes]:
        """Yield the keys of the whole blocks of ``ids``, each made from the one before it."""
        key = hashlib.sha256(version.encode()).digest()
        for end in range(self.block_tokens, len(ids) + 1, self.block_tokens):
            block = array("q", ids[end - self.block_tokens : end])
            key = hashlib.sha256(key + block.tobytes()).digest()
            yield key

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Make a chain from its first block on the most recently used, parents after children."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)
