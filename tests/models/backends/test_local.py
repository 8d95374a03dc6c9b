"""The decode thread behind asyncio: pinning, swapping, cancelling, refusing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.adapters import WEIGHTS_FILE
from models.backends.local import LocalGenerator
from models.errors import AdapterError, EngineError, QueueFullError
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


async def _idle(generator: LocalGenerator) -> None:
    async with asyncio.timeout(5):
        while generator.stats().running + generator.stats().waiting:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


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
    await _idle(generator)
    await asyncio.sleep(0.05)
    assert generator._bank.adapters == {}


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


async def test_a_failing_step_ends_its_replies_and_the_next_one_works(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = generator._started.engine  # type: ignore[union-attr]
    expected = await _reply(generator, "before")

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "run", fail)
        with pytest.raises(EngineError, match="send the request again"):
            await _reply(generator, "during")
    assert await _reply(generator, "after") == expected


async def test_closing_ends_replies_in_flight_with_an_error(settings: LearnerSettings) -> None:
    local = LocalGenerator(settings)
    await local.start()
    task = asyncio.create_task(_reply(local, "x", sampling=replace(GREEDY, max_tokens=120)))
    await asyncio.sleep(0.02)
    await local.close()
    with pytest.raises(EngineError, match="shutting down"):
        await task
