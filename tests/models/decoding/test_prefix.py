from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from models.decoding.prefix import PrefixCache

BLOCK = 2
BYTES = 10

# What a block was made from: the version, all tokens up to its end, and where it starts.
Block = tuple[str, tuple[int, ...], int]


class Store:
    """A cache whose blocks say what they were made from, and a record of what was read."""

    def __init__(self, blocks: int) -> None:
        self.cache: PrefixCache[Block] = PrefixCache(
            capacity_bytes=blocks * BYTES, block_bytes=BYTES, block_tokens=BLOCK
        )
        self.read: list[int] = []

    def store(self, version: str, *ids: int) -> list[int]:
        """Store; return the starts that were read."""
        self.read = []

        def read(start: int) -> Block:
            self.read.append(start)
            return version, ids[: start + BLOCK], start

        self.cache.store(version, ids, read)
        return self.read

    def matched(self, version: str, *ids: int, most: int = 1000) -> int:
        """Match; return the positions covered, once the blocks are known to be the right ones."""
        blocks = self.cache.match(version, ids, most)
        starts = range(0, len(blocks) * BLOCK, BLOCK)
        assert blocks == [(version, ids[: start + BLOCK], start) for start in starts]
        return len(blocks) * BLOCK


def test_whole_blocks_of_the_common_beginning_are_found() -> None:
    store = Store(10)
    assert store.store("v1", 1, 2, 3, 4, 5) == [0, 2]
    assert store.matched("v1", 1, 2, 3, 4, 5, 6) == 4
    assert store.matched("v1", 1, 2, 3, 9) == 2
    assert store.matched("v1", 1, 2, 3) == 2
    assert store.matched("v1", 9, 2, 3, 4) == 0
    assert store.matched("v1") == 0


def test_a_block_is_not_found_without_the_tokens_before_it() -> None:
    store = Store(10)
    store.store("v1", 1, 2, 3, 4)
    assert store.matched("v1", 3, 4) == 0
    assert store.matched("v1", 1, 9, 3, 4) == 0


@pytest.mark.parametrize(("most", "covered"), [(-1, 0), (1, 0), (2, 2), (3, 2), (4, 4), (9, 4)])
def test_no_more_than_was_asked_for_is_covered(most: int, covered: int) -> None:
    store = Store(10)
    store.store("v1", 1, 2, 3, 4)
    assert store.matched("v1", 1, 2, 3, 4, most=most) == covered


def test_versions_do_not_share_blocks() -> None:
    store = Store(10)
    store.store("v1", 1, 2)
    assert store.matched("v2", 1, 2) == 0
    assert store.store("v2", 1, 2) == [0]
    assert store.matched("v2", 1, 2) == 2


def test_only_unknown_blocks_are_read() -> None:
    store = Store(10)
    store.store("v1", 1, 2, 3, 4)
    assert store.store("v1", 1, 2, 3, 4) == []
    assert store.store("v1", 1, 2, 3, 4, 5, 6, 7) == [4]
    assert store.store("v1", 1, 2, 8, 9) == [2]
    assert store.cache.bytes_held == 4 * BYTES


def test_what_was_not_used_for_longest_goes_first_from_its_end() -> None:
    store = Store(4)
    store.store("v1", 1, 1, 1, 1)
    store.store("v1", 2, 2, 2, 2)
    store.matched("v1", 1, 1, 1, 1)
    store.store("v1", 3, 3)
    assert store.matched("v1", 2, 2, 2, 2) == 2
    assert store.matched("v1", 1, 1, 1, 1) == 4
    assert store.matched("v1", 3, 3) == 2


def test_what_a_chain_holds_already_is_not_evicted_for_its_rest() -> None:
    store = Store(3)
    store.store("v1", 1, 1, 1, 1)
    store.store("v1", 2, 2)
    assert store.store("v1", 1, 1, 1, 1, 1, 1) == [4]
    assert store.matched("v1", 1, 1, 1, 1, 1, 1) == 6
    assert store.matched("v1", 2, 2) == 0


def test_of_a_chain_that_is_too_long_the_beginning_is_kept() -> None:
    store = Store(2)
    assert store.store("v1", 1, 2, 3, 4, 5, 6, 7, 8) == [0, 2]
    assert store.matched("v1", 1, 2, 3, 4, 5, 6) == 4


@pytest.mark.parametrize("capacity_bytes", [0, BYTES - 1])
def test_without_room_nothing_is_read_or_found(capacity_bytes: int) -> None:
    store = Store(0)
    store.cache = PrefixCache(capacity_bytes=capacity_bytes, block_bytes=BYTES, block_tokens=BLOCK)
    assert store.store("v1", 1, 2, 3, 4) == []
    assert store.matched("v1", 1, 2, 3, 4) == 0
    assert store.cache.bytes_held == 0


def test_a_forgotten_version_frees_its_blocks_alone() -> None:
    store = Store(10)
    store.store("v1", 1, 2, 3, 4)
    store.store("v2", 1, 2)
    store.cache.forget("v1")
    store.cache.forget("unknown")
    assert store.cache.bytes_held == BYTES
    assert store.matched("v1", 1, 2) == 0
    assert store.matched("v2", 1, 2) == 2


def test_a_failed_read_leaves_what_was_there() -> None:
    store = Store(10)
    store.store("v1", 1, 2)

    def fail(start: int) -> Block:
        if start == 2:
            return "v1", (1, 2, 3, 4), 2
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        store.cache.store("v1", (1, 2, 3, 4, 5, 6), fail)
    assert store.matched("v1", 1, 2, 3, 4) == 2


IDS = st.lists(st.integers(0, 1), max_size=11).map(tuple)
VERSIONS = st.sampled_from(["v1", "v2", "v11"])


@given(
    stored=st.lists(st.tuples(VERSIONS, IDS)), version=VERSIONS, ids=IDS, most=st.integers(0, 12)
)
def test_with_room_for_all_the_longest_common_beginning_is_found(
    stored: list[tuple[str, tuple[int, ...]]], version: str, ids: tuple[int, ...], most: int
) -> None:
    store = Store(1000)
    for owner, others in stored:
        store.store(owner, *others)
    whole = [
        n
        for n in range(0, min(most, len(ids)) + 1, BLOCK)
        for owner, others in [*stored, (version, ())]
        if owner == version and len(others) >= n and others[:n] == ids[:n]
    ]
    assert store.matched(version, *ids, most=most) == max(whole)


class PrefixMachine(RuleBasedStateMachine):
    """Compares the cache with a list of what was used, the least recently used first."""

    CAPACITY = 5

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.CAPACITY)
        self.held: list[tuple[str, tuple[int, ...]]] = []

    def run(self, version: str, ids: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        """Return the whole beginnings of ``ids``, shortest first."""
        return [(version, ids[:end]) for end in range(BLOCK, len(ids) + 1, BLOCK)]

    def use(self, chain: list[tuple[str, tuple[int, ...]]]) -> None:
        self.held = [item for item in self.held if item not in chain] + chain[::-1]

    @rule(version=VERSIONS, ids=IDS)
    def put(self, version: str, ids: tuple[int, ...]) -> None:
        chain = self.run(version, ids)[: self.CAPACITY]
        missing = [len(key) - BLOCK for _, key in chain if (version, key) not in self.held]
        assert self.store.store(version, *ids) == missing
        self.use(chain)
        self.held = self.held[-self.CAPACITY :]

    @rule(version=VERSIONS, ids=IDS, most=st.integers(0, 12))
    def match(self, version: str, ids: tuple[int, ...], most: int) -> None:
        known = [item for item in self.run(version, ids[:most]) if item in self.held]
        assert self.store.matched(version, *ids, most=most) == len(known) * BLOCK
        self.use(known)

    @rule(version=VERSIONS)
    def forget(self, version: str) -> None:
        self.store.cache.forget(version)
        self.held = [item for item in self.held if item[0] != version]

    @invariant()
    def the_bound_holds_and_nothing_else_is_kept(self) -> None:
        assert self.store.cache.bytes_held == len(self.held) * BYTES <= self.CAPACITY * BYTES
        assert [(v, ids) for _, (v, ids, _) in self.store.cache._blocks.values()] == self.held

    @invariant()
    def every_block_is_evicted_before_its_parent(self) -> None:
        blocks = [(v, ids) for _, (v, ids, _) in self.store.cache._blocks.values()]
        for place, (version, ids) in enumerate(blocks):
            if len(ids) > BLOCK:
                assert (version, ids[:-BLOCK]) in blocks[place + 1 :]


TestPrefix = PrefixMachine.TestCase
TestPrefix.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
