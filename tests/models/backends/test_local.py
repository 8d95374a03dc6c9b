"""The decode thread behind asyncio: pinning, swapping, cancelling, refusing."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from models.adapters import WEIGHTS_FILE
from models.backends.local import LocalGenerator
from models.errors import AdapterError, EngineError, GrammarError, QueueFullError
from models.types import BASE, GenerationRequest, Message, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from models.settings import LearnerSettings

pytestmark = pytest.mark.anyio

PROMPT = (5, 9, 11)
GREEDY = Sampling(temperature=0.0, max_tokens=20)


@pytest.fixture
async def generator(settings: LearnerSettings) -> AsyncIterator[LocalGenerator]:
    local = LocalGenerator(settings)
    await local.start()
    yield local
    await local.close()


async def _reply(
    generator: LocalGenerator, name: str, version: str = BASE, sampling: Sampling = GREEDY
) -> list[int]:
    request = GenerationRequest(name, PROMPT, version, sampling)
    return [t.id async for chunk in generator.generate(request) for t in chunk.tokens]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


async def _idle(generator: LocalGenerator) -> None:
    await _until(lambda: not generator.stats().running + generator.stats().waiting)


async def _nothing_is_held(generator: LocalGenerator) -> None:
    """No row, no events, no version pinned: every adapter can be freed."""
    await _idle(generator)
    await _until(lambda: not generator._started.thread._rows)  # type: ignore[union-attr]
    for version in generator.loaded() - {BASE}:
        await generator.unload(version)
    await _until(lambda: not generator._bank.adapters)
    assert not any(generator._bank._users.values())
    assert generator._events == {}


class Gate:
    """Lets the decode thread take one step at a time."""

    def __init__(self, generator: LocalGenerator, patch: pytest.MonkeyPatch) -> None:
        runner = generator._started.engine.runner  # type: ignore[union-attr]
        self._run = runner.run
        self._allowed = threading.Semaphore(0)
        self.steps = 0
        patch.setattr(runner, "run", self._wait_and_run)

    def _wait_and_run(self, *args: Any) -> Any:
        self.steps += 1
        assert self._allowed.acquire(timeout=10)
        return self._run(*args)

    def allow(self, steps: int) -> None:
        self._allowed.release(steps)

    async def reach(self, steps: int) -> None:
        """Wait until the decode thread stands before its n-th step."""
        await _until(lambda: self.steps >= steps)


async def test_many_replies_at_once_equal_each_alone(generator: LocalGenerator) -> None:
    alone = await _reply(generator, "alone")
    together = await asyncio.gather(*(_reply(generator, f"r{i}") for i in range(8)))
    assert together == [alone] * 8


async def test_a_chat_becomes_a_prompt_that_opens_the_assistants_turn(
    generator: LocalGenerator,
) -> None:
    ids = generator.encode_chat([Message("user", "hi")])
    text = "".join(generator.token_text(i) for i in ids)
    assert "hi" in text
    assert text.rstrip().endswith("assistant")
    assert b"".join(generator.token_bytes(i) for i in ids) == text.encode()


async def test_a_version_unloaded_in_mid_reply_is_kept_until_the_reply_ends(
    generator: LocalGenerator, make_version: Callable[[int], str]
) -> None:
    version = make_version(1)
    await generator.load(version)
    whole = await _reply(generator, "whole", version)
    assert whole != await _reply(generator, "base")
    request = GenerationRequest("cut", PROMPT, version, GREEDY)
    ids: list[int] = []
    async with aclosing(generator.generate(request)) as stream:  # type: ignore[type-var]
        async for chunk in stream:
            ids += [t.id for t in chunk.tokens]
            if len(ids) == 1:
                await generator.unload(version)
                assert generator.loaded() == {BASE}
                with pytest.raises(AdapterError, match="not loaded"):
                    await _reply(generator, "late", version)
    assert ids == whole
    await _nothing_is_held(generator)


async def test_a_closed_stream_stops_the_computing(
    generator: LocalGenerator, make_version: Callable[[int], str]
) -> None:
    version = make_version(1)
    await generator.load(version)
    request = GenerationRequest("c", PROMPT, version, replace(GREEDY, max_tokens=100))
    async with aclosing(generator.generate(request)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break
    await generator.unload(version)
    await _idle(generator)
    assert generator.stats().tokens_total < 50


async def test_a_client_that_leaves_in_mid_prefill_stops_the_computing(
    generator: LocalGenerator, make_version: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_version(1)
    await generator.load(version)
    gate = Gate(generator, monkeypatch)
    request = GenerationRequest("long", tuple(range(5, 105)), version, GREEDY)  # 7 chunks of 16
    task = asyncio.ensure_future(anext(generator.generate(request)))
    gate.allow(2)
    await gate.reach(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.allow(5)
    await _nothing_is_held(generator)
    assert gate.steps == 3
    assert generator.stats().tokens_total == 0


async def test_a_client_that_leaves_before_it_was_admitted_leaves_nothing_behind(
    generator: LocalGenerator, make_version: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_version(1)
    await generator.load(version)
    gate = Gate(generator, monkeypatch)
    first = asyncio.create_task(_reply(generator, "first", version))
    await gate.reach(1)
    # the decode thread is busy: both messages of the second reply lie waiting for it
    second = asyncio.create_task(_reply(generator, "second", version))
    await asyncio.sleep(0.01)
    assert generator.stats().waiting == 1
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.allow(100)
    assert len(await first) == GREEDY.max_tokens
    await _nothing_is_held(generator)
    assert generator.stats().tokens_total == GREEDY.max_tokens


async def test_a_stop_string_ends_the_reply_and_what_came_after_it_is_no_part_of_it(
    generator: LocalGenerator,
) -> None:
    ids = await _reply(generator, "whole")
    tokenizer = generator._started.base.tokenizer  # type: ignore[union-attr]
    whole = tokenizer.decode(ids)
    stop = whole[len(whole) // 2 :][:3]
    completing = next(n for n in range(1, len(ids)) if stop in tokenizer.decode(ids[:n]))
    request = GenerationRequest("cut", PROMPT, BASE, replace(GREEDY, stop=("never", stop)))
    chunks = [chunk async for chunk in generator.generate(request)]
    assert "".join(chunk.text for chunk in chunks) == whole[: whole.index(stop)]
    assert [t.id for chunk in chunks for t in chunk.tokens] == ids[:completing]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    await _nothing_is_held(generator)


async def test_tokens_that_came_together_after_a_stop_string_are_dropped(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await _reply(generator, "whole")
    tokenizer = generator._started.base.tokenizer  # type: ignore[union-attr]
    stop = tokenizer.decode(ids)[4:7]
    completing = next(n for n in range(1, len(ids)) if stop in tokenizer.decode(ids[:n]))
    request = GenerationRequest("cut", PROMPT, BASE, replace(GREEDY, stop=(stop,)))
    stream = generator.generate(request)
    chunks = [await anext(stream)]
    time.sleep(0.5)  # noqa: ASYNC251 - the event loop is to be late, and find all tokens at once
    chunks += [chunk async for chunk in stream]
    assert [t.id for chunk in chunks for t in chunk.tokens] == ids[:completing]
    assert chunks[-1].finish_reason == "stop"


async def test_a_seed_gives_the_same_reply_whoever_comes_and_goes_beside_it(
    generator: LocalGenerator, make_version: Callable[[int], str]
) -> None:
    versions = [make_version(1), make_version(2)]
    for version in versions:
        await generator.load(version)
    seeded = Sampling(max_tokens=40, seed=11)
    alone = await _reply(generator, "alone", versions[0], seeded)

    async def others() -> None:
        for number in range(12):
            version = [BASE, *versions][number % 3]
            sampling = Sampling(max_tokens=1 + 5 * number % 17)
            await _reply(generator, f"o{number}", version, sampling)

    _, *again = await asyncio.gather(
        others(), *(_reply(generator, f"s{i}", versions[0], seeded) for i in range(3))
    )
    assert again == [alone] * 3


async def test_an_id_that_is_in_flight_is_refused(generator: LocalGenerator) -> None:
    first = asyncio.create_task(_reply(generator, "same"))
    await asyncio.sleep(0)
    with pytest.raises(EngineError, match="in flight already"):
        await _reply(generator, "same")
    assert len(await first) == GREEDY.max_tokens
    await _nothing_is_held(generator)


async def test_beyond_the_queue_requests_are_refused_at_once(generator: LocalGenerator) -> None:
    # 4 rows and 8 waiting: of 40 at once, some must be refused, and the rest answered whole
    results = await asyncio.gather(
        *(_reply(generator, f"r{i}") for i in range(40)), return_exceptions=True
    )
    refused = [r for r in results if isinstance(r, QueueFullError)]
    answered = [r for r in results if isinstance(r, list)]
    assert refused
    assert len(refused) + len(answered) == 40
    assert len({tuple(a) for a in answered}) == 1
    await _nothing_is_held(generator)


async def test_an_altered_adapter_is_not_loaded(
    generator: LocalGenerator, make_version: Callable[[int], str], settings: LearnerSettings
) -> None:
    version = make_version(1)
    weights = settings.adapters_dir / version / WEIGHTS_FILE
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(AdapterError, match="altered"):
        await generator.load(version)
    assert generator.loaded() == {BASE}


async def test_an_adapter_of_another_base_is_refused(
    generator: LocalGenerator, make_version: Callable[[int], str]
) -> None:
    version = make_version(1)
    generator._started.base = replace(generator._started.base, content_hash="0" * 64)  # type: ignore[union-attr]
    with pytest.raises(AdapterError, match="not on the base"):
        await generator.load(version)


@pytest.mark.parametrize("broken", ["run", "move", "store"])
async def test_a_failing_step_ends_its_replies_and_leaves_nothing_behind(
    generator: LocalGenerator,
    make_version: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    """Wherever it fails: also while a row that has just finished gives its slot back."""
    version = make_version(1)
    await generator.load(version)
    expected = await _reply(generator, "before", version)
    engine = generator._started.engine  # type: ignore[union-attr]
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("out of memory")

    target, name = {
        "run": (engine.runner, "run"),
        "move": (engine.runner.cache, "move"),
        "store": (engine._prefixes, "store"),
    }[broken]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, fail)
        # 4 rows and 4 waiting; they end one after the other, so that slots are closed up
        results = await asyncio.gather(
            *(
                _reply(generator, f"r{i}", version, replace(GREEDY, max_tokens=4 + i))
                for i in range(8)
            ),
            return_exceptions=True,
        )
        failed = [r for r in results if isinstance(r, EngineError)]
        assert failed
        assert all("send the request again" in str(error) for error in failed)
        assert all(r == expected[: 4 + i] for i, r in enumerate(results) if isinstance(r, list))
    assert calls
    assert await _reply(generator, "after", version) == expected
    await _nothing_is_held(generator)


async def test_closing_ends_replies_in_flight_with_an_error(settings: LearnerSettings) -> None:
    local = LocalGenerator(settings)
    await local.start()
    task = asyncio.create_task(_reply(local, "x", sampling=replace(GREEDY, max_tokens=120)))
    await asyncio.sleep(0.02)
    await local.close()
    with pytest.raises(EngineError, match="shutting down"):
        await task
    with pytest.raises(EngineError, match="shutting down"):
        await _reply(local, "y")
    assert local._events == {}
    assert local.stats().running + local.stats().waiting == 0


async def test_a_reply_is_held_to_its_schema(generator: LocalGenerator) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    closed = json.dumps({**schema, "additionalProperties": False})

    async def text(name: str) -> str:
        request = GenerationRequest(name, PROMPT, sampling=Sampling(max_tokens=60), schema=closed)
        return "".join([chunk.text async for chunk in generator.generate(request)])

    replies = await asyncio.gather(*(text(str(n)) for n in range(3)), _reply(generator, "free"))
    for reply in replies[:3]:
        assert json.loads(str(reply)) in ({"ok": True}, {"ok": False})
    await _nothing_is_held(generator)


async def test_a_schema_that_cannot_be_held_is_refused(generator: LocalGenerator) -> None:
    request = GenerationRequest("a", PROMPT, schema='{"type": "objct"}')
    with pytest.raises(GrammarError, match="objct"):
        [chunk async for chunk in generator.generate(request)]
    await _nothing_is_held(generator)
