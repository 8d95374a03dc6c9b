"""Which runner serves a base model, and how much KV memory it gets."""

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
    """Return the runner that the settings ask for; it takes the base model over.

    Raises:
        EngineError: The base model is of a kind that cannot be decoded exactly, or there is too
            little KV memory.
    """
    cache = make_cache(base.model, settings)
    runner = _native_if_it_can(base.model, cache, settings)
    if runner is None:
        return TransformersRunner(base.model, cache, threads=settings.step_threads())
    base.model.to("meta")  # the runner has packed the weights; these are of no more use
    return runner


def make_runner_beside(base: Base, settings: ModelSettings) -> Runner:
    """Return the same, with weights of its own: somebody else goes on with the base model.

    Raises:
        EngineError: As ``make_runner``.
        BaseModelError: The model had to be loaded again, and cannot be.
    """
    runner = _native_if_it_can(base.model, make_cache(base.model, settings), settings)
    if runner is not None:
        return runner
    model = load_base(settings).model
    cache = make_cache(model, settings)
    return TransformersRunner(model, cache, threads=settings.step_threads())


def _native_if_it_can(model: Any, cache: SlotCache, settings: ModelSettings) -> NativeRunner | None:
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
    """Return KV memory for as many rows as the settings have room for.

    Raises:
        EngineError: ``kv_memory_mib`` does not hold one row.
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
