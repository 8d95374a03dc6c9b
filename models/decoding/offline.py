"""Decodes replies to a few prompts beside a learner, and keeps no memory afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner_beside
from models.memory import give_back_freed_memory
from models.types import BASE, GenerationRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.base.loading import Base
    from models.settings import ModelSettings
    from models.types import Sampling, Token

CELLS = 8192
"""Most rows times context: bounds the KV memory, which long prompts would make large."""
PREFIX_MIB = 16
"""Prompts are kept for the next reply to the same one, replies for nobody."""
_VERSION = "aside"


def reply_aside(
    base: Base,
    adapter: Path | None,
    asked: Sequence[tuple[tuple[int, ...], Sampling]],
    settings: ModelSettings,
) -> list[list[Token]]:
    """Reply to prompts with an adapter as it is served.

    Args:
        base: The base, which somebody else goes on with.
        adapter: The adapter's folder, its hashes checked before; None for the base itself.
        asked: The prompts' tokens, and how to reply to each.
        settings: How the engine runs; its rows and its context are what the prompts need.

    Returns:
        The replies' tokens with their log-probs, an end-of-sequence token included.

    Raises:
        EngineError: The model cannot be decoded, or gives no numbers.
        AdapterError: The adapter is not one that can be served.
        PromptTooLongError: A prompt leaves no room for a reply in the model's context.
    """
    give_back_freed_memory()  # passes over other numbers of tokens leave what fits nothing here
    replies = _reply(base, adapter, asked, settings)
    give_back_freed_memory()
    return replies


def _reply(
    base: Base,
    adapter: Path | None,
    asked: Sequence[tuple[tuple[int, ...], Sampling]],
    settings: ModelSettings,
) -> list[list[Token]]:
    context = max(len(ids) + sampling.max_tokens for ids, sampling in asked)
    fitting = settings.model_copy(
        update={
            "max_rows": max(1, min(len(asked), CELLS // context)),
            "max_queue": len(asked),
            "max_queue_per_user": len(asked),
            "context_length": context,
            "kv_memory_mib": 0,
            "prefix_cache_mib": min(settings.prefix_cache_mib, PREFIX_MIB),
        }
    )
    runner, bank = make_runner_beside(base, fitting), AdapterBank()
    if adapter is not None:
        bank.add(_VERSION, runner.prepare(read_adapter(adapter)))
    version = BASE if adapter is None else _VERSION
    engine = Engine(base, runner, bank, fitting)
    replies: dict[str, list[Token]] = {}
    for number, (ids, sampling) in enumerate(asked):
        request = GenerationRequest(str(number), ids, version, sampling)
        engine.scheduler.submit(engine.make_row(request))
        replies[request.id] = []
    while not engine.scheduler.idle:
        for gain in engine.step():
            replies[gain.row.id].append(gain.token)
    return list(replies.values())
