"""Chooses the runner for a base model, and sizes its KV cache."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from models.base.loading import load_base
from models.decoding.kv import SlotCache
from models.decoding.native.runner import NativeRunner
from models.decoding.transformers_runner import TransformersRunner
from models.errors import EngineError
from models.native.llama import unsupported

if TYPE_CHECKING:
    from models.base.loading import Base
    from models.decoding.runner import Runner
    from models.settings import ModelSettings

_MIB = 2**20

_log = logging.getLogger(__name__)


def make_runner(base: Base, settings: ModelSettings) -> Runner:
    """Return the runner that the settings name; the runner takes ownership of the base model.

    Raises:
        EngineError: The base model cannot be decoded exactly, or the KV cache holds no row.
    """
    cache = make_cache(base.model, settings)
    runner = _native_or_none(base.model, cache, settings)
    if runner is None:
        return TransformersRunner(base.model, cache, threads=settings.step_threads())
    base.model.to("meta")  # frees the weights: the native runner has packed its own copy
    return runner


def make_second_runner(base: Base, settings: ModelSettings) -> Runner:
    """Return a runner with its own weights, which leaves the base model to its other users.

    Raises:
        EngineError: The base model cannot be decoded exactly, or the KV cache holds no row.
        BaseModelError: The generic runner needs a second copy of the model, and loading it failed.
    """
    runner = _native_or_none(base.model, make_cache(base.model, settings), settings)
    if runner is not None:
        return runner
    model = load_base(settings).model
    cache = make_cache(model, settings)
    return TransformersRunner(model, cache, threads=settings.step_threads())


def _native_or_none(model: Any, cache: SlotCache, settings: ModelSettings) -> NativeRunner | None:
    if settings.runner == "transformers":
        return None
    try:
        return _native(model, cache, settings)
    except EngineError as error:
        if settings.runner == "native":
            raise
        _log.warning("Decoding with transformers' own forward pass, which is slower. %s", error)
        return None


def _native(model: Any, cache: SlotCache, settings: ModelSettings) -> NativeRunner:
    reason = unsupported(model)
    if reason is not None:
        raise EngineError(f"The native runner cannot serve {settings.base_model}: {reason}.")
    return NativeRunner(
        model, cache, threads=settings.step_threads(), build_dir=settings.data_dir / "native"
    )


def make_cache(model: Any, settings: ModelSettings) -> SlotCache:
    """Return a KV cache for as many rows as the settings allow.

    Raises:
        EngineError: ``kv_memory_mib`` is too small for one row.
    """
    text = model.config.get_text_config(decoder=True)
    longest: int | None = getattr(text, "max_position_embeddings", None)
    context = min(settings.context_length, longest or settings.context_length)
    make = partial(
        SlotCache.for_model,
        model.config,
        context=context,
        dtype=model.dtype,
        device=model.device,
    )
    if settings.kv_memory_mib == 0:
        return make(slots=settings.max_rows)
    row_mib = make(slots=1).bytes_per_token * context / _MIB
    slots = min(settings.max_rows, int(settings.kv_memory_mib / row_mib))
    if slots == 0:
        raise EngineError(
            f"One reply of {context} tokens takes {row_mib:.1f} MiB of KV memory, more than the "
            f"{settings.kv_memory_mib} MiB allowed: raise THUMBLOOP_KV_MEMORY_MIB or lower "
            "THUMBLOOP_CONTEXT_LENGTH."
        )
    return make(slots=slots)
