"""The engine over a toy model whose next token depends on everything that the row's slot holds.

A token that is lost, doubled, written to another row's slot, left behind by a move, or restored
from another version changes every reply after it; expected replies are worked out without slots.
"""

from __future__ import annotations

import random
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.kv import SlotCache
from models.decoding.prefix import PrefixCache
from models.errors import QueueFullError
from models.settings import ModelSettings
from models.types import BASE, GenerationRequest, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.decoding.row import Row
    from models.decoding.runner import Segment

SLOTS, QUEUE, CONTEXT, END, VOCABULARY = 3, 4, 200, 0, 20
VERSIONS = ("v000001-000000000000", "v000002-000000000000")
STEM = tuple(random.Random(1).choices(range(1, VOCABULARY), k=90))  # what many prompts begin with


def _next(held: Sequence[tuple[float, float]], uniform: float) -> int:
    return zlib.crc32(repr((list(held), uniform)).encode()) % VOCABULARY


def _reply(request: GenerationRequest, weights: float) -> list[int]:
    draws = random.Random(request.sampling.seed)
    held = [(float(i), weights) for i in request.prompt_ids]
    reply: list[int] = []
    while len(reply) < request.sampling.max_tokens and END not in reply:
        reply.append(_next(held, draws.random()))
        held.append((float(reply[-1]), weights))
    return reply


class ToyRunner:
    """Keys hold tokens, values hold the number that stands for a version's weights."""

    def __init__(self) -> None:
        self.broken = False
        self.cache = SlotCache(
            layers=1,
            slots=SLOTS,
            context=CONTEXT,
            kv_heads=1,
            head_size=1,
            dtype=torch.float64,
            device="cpu",
        )

    def prepare(self, adapter: Any) -> Any:
        return adapter

    def run(self, segments: Sequence[Segment], adapters: Mapping[str, Any]) -> list[Token | None]:
        assert [s.slot for s in segments] == list(range(len(segments)))
        drawn: list[Token | None] = []
        for segment in segments:
            keys, values = (
                memory[0, segment.slot, 0, :, 0] for memory in (self.cache.keys, self.cache.values)
            )
            end = segment.start + len(segment.ids)
            keys[segment.start : end] = torch.tensor(segment.ids, dtype=torch.float64)
            values[segment.start : end] = adapters[segment.version] if segment.version else 0.0
            held = list(zip(keys[:end].tolist(), values[:end].tolist(), strict=True))
            draw = segment.draw
            drawn.append(None if draw is None else Token(_next(held, draw.uniform), 0.0))
            if self.broken:
                raise RuntimeError("broken in the middle of a step")
        return drawn


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bank = AdapterBank()
        self.runner = ToyRunner()
        self.engine = Engine(
            SimpleNamespace(end_ids={END}),  # type: ignore[arg-type]
            self.runner,
            self.bank,
            ModelSettings(
                prefill_chunk=40, max_queue=QUEUE, max_queue_per_user=3, prefix_cache_mib=1
            ),
        )
        # few and short blocks, so that some are dropped and ends of rows often end one
        self.engine._prefixes = PrefixCache(capacity_bytes=150, block_bytes=1, block_tokens=3)
        self.weights = {BASE: 0.0}
        self.count = 0
        for version in VERSIONS:
            self._load(version)
        self.conversations: list[tuple[int, ...]] = [STEM]
        self.rows: dict[str, Row] = {}
        self.expected: dict[str, list[int]] = {}
        self.replies: dict[str, list[int]] = {}

    def _load(self, version: str) -> None:
        self.count += 1
        self.weights[version] = float(self.count)
        self.bank.add(version, self.weights[version])

    def _gone(self, name: str) -> None:
        row = self.rows.pop(name)
        self.bank.release(row.request.version)
        if len(row.ids) + 9 + 40 <= CONTEXT:
            self.conversations.append(row.ids)

    @rule(
        data=st.data(),
        rest=st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=9),
        most=st.integers(1, 40),
        version=st.sampled_from([BASE, *VERSIONS]),
        user=st.sampled_from("xy"),
    )
    def ask(self, data: st.DataObject, rest: list[int], most: int, version: str, user: str) -> None:
        """Ask something that begins like others, or goes on from a conversation."""
        self.count += 1
        stem = data.draw(st.sampled_from(self.conversations))
        if stem == STEM:
            stem = STEM[: data.draw(st.integers(0, len(STEM)))]
        request = GenerationRequest(
            id=f"r{self.count}",
            prompt_ids=(*stem, *rest),
            version=version,
            sampling=Sampling(max_tokens=most, seed=self.count),
            user=user,
        )
        row = self.engine.make_row(request)
        self.bank.pin(version)
        self.rows[row.id] = row
        waiting = [r for r in self.rows.values() if self.engine.scheduler.find(r.id) is None]
        if len(waiting) > QUEUE or sum(r.user == user for r in waiting) > 3:
            with pytest.raises(QueueFullError):
                self.engine.scheduler.submit(row)
            self._gone(row.id)
            return
        self.engine.scheduler.submit(row)
        self.expected[row.id] = _reply(request, self.weights[version])
        self.replies[row.id] = []

    @rule(steps=st.integers(1, 15))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            decoding = [row.id for row in self.engine.scheduler.decoding]
            gained = self.engine.step()
            names = [gain.row.id for gain in gained]
            assert names[: len(decoding)] == decoding  # each decoding row gains one token a step
            assert len(set(names)) == len(names)
            for gain in gained:
                reply, expected = self.replies[gain.row.id], self.expected[gain.row.id]
                reply.append(gain.token.id)
                assert reply == expected[: len(reply)]
                ended = "stop" if gain.token.id == END else "length"
                finished = ended if len(reply) == len(expected) else None
                assert gain.finish_reason == finished
                if finished:
                    self._gone(gain.row.id)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.rows)))
        self.engine.cancel(name)
        self._gone(name)

    @rule(version=st.sampled_from(VERSIONS))
    def swap(self, version: str) -> None:
        """The same name with other weights: nothing computed with the old ones may be used."""
        if any(row.request.version == version for row in self.rows.values()):
            return
        self.bank.retire(version)
        self._load(version)

    @precondition(lambda self: self.count % 5 == 0)  # rarely, or no reply would ever end
    @rule()
    def fail(self) -> None:
        self.runner.broken = True
        if self.engine.scheduler.idle:
            assert self.engine.step() == []
        else:
            with pytest.raises(RuntimeError, match="broken"):
                self.engine.step()
        self.runner.broken = False
        dropped = self.engine.drop()
        assert sorted(row.id for row in dropped) == sorted(self.rows)
        for row in dropped:
            self._gone(row.id)

    @invariant()
    def the_engine_holds_exactly_the_rows_in_flight(self) -> None:
        scheduler = self.engine.scheduler
        assert scheduler.running <= SLOTS
        assert scheduler.waiting <= QUEUE
        assert scheduler.running + scheduler.waiting == len(self.rows)

    def teardown(self) -> None:
        for _ in range(500):
            self.step(1)
        assert not self.rows
        assert self.engine.scheduler.idle


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_the_toy_notices_a_position_that_another_row_wrote() -> None:
    held = [(float(i), 1.0) for i in STEM]
    for index in range(len(held)):
        for wrong in ((held[index][0] + 1, 1.0), (held[index][0], 2.0)):
            others = {_next([*held[:index], wrong, *held[index + 1 :]], u / 7) for u in range(7)}
            assert others != {_next(held, u / 7) for u in range(7)}
