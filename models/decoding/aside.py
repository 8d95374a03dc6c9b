"""Decodes replies to a few prompts beside a learner, and keeps no memory afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner_beside
from models.types import GenerationRequest, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.base import Base
    from models.settings import ModelSettings
    from models.types import Token

_VERSION = "aside"


def reply_aside(
    base: Base,
    adapter: Path,
    prompts: Sequence[tuple[int, ...]],
    settings: ModelSettings,
    *,
    max_tokens: int,
) -> list[list[Token]]:
    """Reply to prompts with an adapter as it is served, at temperature 1; the same every time.

    Args:
        base: The base, which somebody else goes on with.
        adapter: The adapter's folder, its hashes checked before.
        prompts: Their tokens.
        settings: How the engine runs; its rows and its context are what the prompts need.
        max_tokens: Most tokens of a reply.

    Returns:
        The replies' tokens with their log-probs, an end-of-sequence token included.

    Raises:
        EngineError: The model cannot be decoded, or gives no numbers.
        AdapterError: The adapter is not one that can be served.
        PromptTooLongError: A prompt leaves no room for a reply in the model's context.
    """
    fitting = settings.model_copy(
        update={
            "max_rows": len(prompts),
            "max_queue": len(prompts),
            "max_queue_per_user": len(prompts),
            "context_length": max(map(len, prompts)) + max_tokens,
            "kv_memory_mib": 0,
        }
    )
    runner, bank = make_runner_beside(base, fitting), AdapterBank()
    bank.add(_VERSION, runner.prepare(read_adapter(adapter)))
    engine = Engine(base, runner, bank, fitting)
    replies: dict[str, list[Token]] = {}
    for number, ids in enumerate(prompts):
        sampling = Sampling(max_tokens=max_tokens, seed=number)
        request = GenerationRequest(str(number), ids, _VERSION, sampling)
        engine.scheduler.submit(engine.make_row(request))
        replies[request.id] = []
    while not engine.scheduler.idle:
        for gain in engine.step():
            replies[gain.row.id].append(gain.token)
    return list(replies.values())
