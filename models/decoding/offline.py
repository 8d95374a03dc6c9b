"""Decodes replies to a few prompts outside the server, and frees its memory afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_second_runner
from models.memory import give_back_freed_memory
from models.types import BASE, GenerationRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.base.loading import Base
    from models.settings import ModelSettings
    from models.types import Sampling, Token

MAX_KV_POSITIONS = 8192
"""The most rows times context, which bounds the KV cache when prompts are long."""
MAX_PREFIX_CACHE_MIB = 16
"""The most MiB of the prefix cache: only prompts that repeat are worth caching here."""
_VERSION = "offline"


def generate_offline(
    base: Base,
    adapter: Path | None,
    prompts: Sequence[tuple[tuple[int, ...], Sampling]],
    settings: ModelSettings,
) -> list[list[Token]]:
    """Generate replies with an adapter, as the server would.

    Args:
        base: The base, which stays usable by the caller.
        adapter: The adapter's folder, whose hashes the caller has verified; None for the base.
        prompts: The token ids and the sampling parameters of each prompt.
        settings: The engine's settings; rows, queue and context are set to what the prompts need.

    Returns:
        The tokens of each reply with their log-probs, an end-of-sequence token included.

    Raises:
        EngineError: The model cannot be decoded, or its output is not a number.
        AdapterError: The adapter cannot be served.
        PromptTooLongError: A prompt leaves no room for a reply in the model's context.
    """
    give_back_freed_memory()  # memory freed by a learner's passes fits none of the engine's needs
    replies = _reply(base, adapter, prompts, settings)
    give_back_freed_memory()
    return replies


def _reply(
    base: Base,
    adapter: Path | None,
    prompts: Sequence[tuple[tuple[int, ...], Sampling]],
    settings: ModelSettings,
) -> list[list[Token]]:
    context = max(len(ids) + sampling.max_tokens for ids, sampling in prompts)
    fitting = settings.model_copy(
        update={
            "max_rows": max(1, min(len(prompts), MAX_KV_POSITIONS // context)),
            "max_queue": len(prompts),
            "max_queue_per_user": len(prompts),
            "context_length": context,
            "kv_memory_mib": 0,
            "prefix_cache_mib": min(settings.prefix_cache_mib, MAX_PREFIX_CACHE_MIB),
        }
    )
    runner, bank = make_second_runner(base, fitting), AdapterBank()
    if adapter is not None:
        bank.add(_VERSION, runner.prepare(read_adapter(adapter)))
    version = BASE if adapter is None else _VERSION
    engine = Engine(base, runner, bank, fitting)
    replies: dict[str, list[Token]] = {}
    for number, (ids, sampling) in enumerate(prompts):
        request = GenerationRequest(str(number), ids, version, sampling)
        engine.scheduler.submit(engine.make_row(request))
        replies[request.id] = []
    while not engine.scheduler.idle:
        for new_token in engine.step():
            replies[new_token.row.id].append(new_token.token)
    return list(replies.values())
