"""What an adapter from elsewhere must be to be served here; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.adapters.plain import not_plain
from models.base.files import BaseFacts, base_facts
from models.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.settings import ModelSettings

PREFIX = "base_model.model."
FACTORS = (".lora_A.weight", ".lora_B.weight")
DTYPES = frozenset({"F32", "F16", "BF16"})
_NAMED = 3
"""How many names a message has, before the count of the others."""

_KNOWN_OPTIONS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
"""Options of PEFT 0.21 that do not change what a plain adapter computes, or that its tensors show.

Which layers it adapts is seen by its tensors, and its scale by rank and alpha.
"""


@dataclass(frozen=True, slots=True)
class AdapterRequirements:
    """What an adapter must fit.

    Attributes:
        base: The base that is served here.
        rank: Rank of adapters here (``THUMBLOOP_LORA_RANK``).
        alpha: Their scale is alpha / rank (``THUMBLOOP_LORA_ALPHA``).
        max_bytes: Most bytes of its files together.
    """

    base: BaseFacts
    rank: int
    alpha: float
    max_bytes: int

    @classmethod
    def from_settings(cls, settings: ModelSettings) -> AdapterRequirements:
        """Read what fits the base that the settings name.

        Raises:
            BaseModelError: The base is not on this machine, or cannot be read.
        """
        return cls(
            base=base_facts(settings),
            rank=settings.lora_rank,
            alpha=settings.lora_alpha,
            max_bytes=settings.import_max_bytes,
        )


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as a safetensors header describes it."""

    dtype: str
    shape: tuple[int, ...]


def check_config(config: Mapping[str, Any], wanted: AdapterRequirements) -> None:
    """Check an ``adapter_config.json``.

    Raises:
        ImportRefusedError: It asks for what this project does not serve.
    """
    reason = not_plain({**config, "use_rslora": False})  # its scale is folded in
    if reason is not None:
        raise ImportRefusedError(f"Only plain LoRA adapters are served, and its {reason}.")
    unknown = sorted(k for k, v in config.items() if v and k not in _KNOWN_OPTIONS)
    if unknown:
        raise ImportRefusedError(
            f"Its {_some(unknown)} may change what it computes, and this version of Thumbloop does "
            "not know how: merge the adapter, or train it without."
        )
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ImportRefusedError(
            f"It is for {config['task_type']!r}; only CAUSAL_LM adapters can chat."
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    numbers = type(rank) is int and isinstance(alpha, int | float)
    if rank is None or alpha is None or not numbers or rank < 1 or alpha <= 0:
        raise ImportRefusedError(f"Its rank is {rank!r} and its alpha {alpha!r}: both are needed.")
    if rank > wanted.rank:
        raise ImportRefusedError(
            f"Its rank is {rank}, but adapters here have rank {wanted.rank}: set "
            "THUMBLOOP_LORA_RANK to the adapter's on a data folder of its own, or train it anew."
        )


def check_tensors(tensors: Mapping[str, Tensor], wanted: AdapterRequirements) -> None:
    """Check names, shapes and number formats against the base's layers.

    Raises:
        ImportRefusedError: They are not those of an adapter for this base.
    """
    expected = _expected(wanted)
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise ImportRefusedError(
            f"It has tensors that belong to no linear layer of {wanted.base.name}: "
            f"{_some(unknown)}. It is for another base model, or adapts more than linear layers."
        )
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise ImportRefusedError(
            f"It lacks {_some(missing)}: adapters here change all linear layers but the head."
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            raise ImportRefusedError(
                f"{name} has the shape {list(tensor.shape)}, but {list(expected[name])} fits "
                f"{wanted.base.name} and rank {wanted.rank}: it is for another base model or rank."
            )
        if tensor.dtype not in DTYPES:
            raise ImportRefusedError(
                f"{name} is stored as {tensor.dtype}; one of {', '.join(sorted(DTYPES))} is taken."
            )


def check_state(tensors: Mapping[str, Tensor], wanted: AdapterRequirements) -> None:
    """Check a learner's state: moments of the adapter's tensors, a critic's, and random numbers.

    Raises:
        ImportRefusedError: A tensor belongs to none of them.
    """
    expected = _expected(wanted)
    critics = {
        name.removeprefix("critic."): tensor.shape
        for name, tensor in tensors.items()
        if name.startswith("critic.")
    }
    for name, tensor in tensors.items():
        kind, _, of = name.partition(".")
        if name == "random":
            fits = tensor.dtype == "U8" and len(tensor.shape) == 1
        else:
            shape = (critics if of in critics else expected).get(of)
            known = kind in {"exp_avg", "exp_avg_sq", "critic"}
            fits = known and tensor.dtype == "F32" and tensor.shape == shape
        if not fits:
            raise ImportRefusedError(
                f"Its learner's state holds {name} ({tensor.dtype}, {list(tensor.shape)}), which "
                "fits nothing here: leave that file out, and learning starts afresh."
            )


def _expected(wanted: AdapterRequirements) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that an adapter here has."""
    shapes: dict[str, tuple[int, ...]] = {}
    for module, (rows, columns) in wanted.base.linears.items():
        shapes[PREFIX + module + FACTORS[0]] = (wanted.rank, columns)
        shapes[PREFIX + module + FACTORS[1]] = (rows, wanted.rank)
    return shapes


def _some(names: Iterable[str]) -> str:
    """Return the first of many names, and how many more there are."""
    every = list(names)
    more = len(every) - _NAMED
    return ", ".join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")
