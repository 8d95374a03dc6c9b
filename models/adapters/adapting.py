"""Turns the files of other trainers into those of an adapter here, where the two compute the same.

Trainers name tensors differently, adapt fewer layers, or choose another alpha or a smaller rank.
All of these can be written as a whole adapter of the rank and alpha that are served here. The
numbers are worked on by numpy, so that an import needs no torch.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import deserialize
from safetensors.numpy import save_file

from models.adapters.checks import DTYPES, FACTORS, PREFIX
from models.adapters.manifest import CONFIG_FILE, STATE_FILE, WEIGHTS_FILE
from models.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from models.adapters.checks import AdapterRequirements, Tensor

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.")
"""What wrappers of torch put into the names of modules; the last is a part of others."""
_CHOOSE_LAYERS = ("exclude_modules", "layers_to_transform", "layers_pattern", "use_rslora")
"""Options whose effect is in the tensors once they are rewritten."""


def adapt(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    wanted: AdapterRequirements,
) -> None:
    """Rewrite an adapter's files in place; leave them alone if they are as they should be.

    Args:
        folder: Has its configuration and its weights, and perhaps a learner's state.
        config: Its checked configuration.
        tensors: What the header of its weights says.
        wanted: The base, and the rank and alpha to write.

    Raises:
        ImportRefusedError: Two tensors have one meaning.
    """
    names = _names(tensors, wanted)
    modules = {_module(ours) for ours in names} & wanted.base.linears.keys()
    factor = scale_of(config) / (wanted.alpha / wanted.rank)
    as_it_is = (
        all(theirs == ours for ours, theirs in names.items())
        and (factor, config["r"]) == (1, wanted.rank)
        and modules == wanted.base.linears.keys()
        and _covers(config.get("target_modules"), wanted.base.linears)
        and not any(config.get(option) for option in _CHOOSE_LAYERS)
    )
    if as_it_is or any(tensor.dtype not in DTYPES for tensor in tensors.values()):
        return  # what is of another number format is refused next
    values = _read(folder / WEIGHTS_FILE)
    rows = {
        ours: _fitted(ours, values[theirs], config["r"], wanted.rank, factor)
        for ours, theirs in names.items()
    }
    for module in wanted.base.linears.keys() - modules:  # these layers stay as the base has them
        outputs, inputs = wanted.base.linears[module]
        rows[f"{PREFIX}{module}{FACTORS[0]}"] = np.zeros((wanted.rank, inputs), np.float32)
        rows[f"{PREFIX}{module}{FACTORS[1]}"] = np.zeros((outputs, wanted.rank), np.float32)
    save_file(rows, folder / WEIGHTS_FILE, {"format": "pt"})
    kept = {name: value for name, value in config.items() if name not in _CHOOSE_LAYERS}
    ours = {"r": wanted.rank, "lora_alpha": wanted.alpha, "target_modules": "all-linear"}
    (folder / CONFIG_FILE).write_text(json.dumps({**kept, **ours}, indent=2))
    (folder / STATE_FILE).unlink(missing_ok=True)  # its moments are of other tensors


def scale_of(config: Mapping[str, Any]) -> float:
    """Return what the products of an adapter are multiplied by."""
    rank = config["r"]
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def canonical_name(name: str, linears: Iterable[str]) -> str:
    """Return PEFT's name of a tensor of some layer; any other name stays as it is."""
    plain = name
    for wrapper in _WRAPPERS:
        plain = plain.replace(wrapper, "")
    plain = plain.replace(".default", "")
    plain = plain if plain.endswith(".weight") else f"{plain}.weight"
    module = _module(plain)
    if not module:
        return name
    factor = plain[-len(FACTORS[0]) :]
    candidates = {module, module.removeprefix("model."), f"model.{module}"}
    known = candidates & set(linears)
    return f"{PREFIX}{known.pop()}{factor}" if len(known) == 1 else name


def _module(name: str) -> str:
    """Return the layer that a tensor belongs to; empty if it is no factor of one."""
    for factor in FACTORS:
        if name.endswith(factor):
            return name.removesuffix(factor).removeprefix("base_model.").removeprefix("model.")
    return ""


def _names(tensors: Mapping[str, Tensor], wanted: AdapterRequirements) -> dict[str, str]:
    """Return the name of each tensor as it is, by the one that PEFT gives it."""
    found: dict[str, str] = {}
    for name in tensors:
        ours = canonical_name(name, wanted.base.linears)
        if ours in found:
            raise ImportRefusedError(
                f"It has {found[ours]} and {name}, which are the same factor of one layer: which "
                "one is meant?"
            )
        found[ours] = name
    return found


def _covers(targets: object, linears: Iterable[str]) -> bool:
    """Whether PEFT would adapt all of these layers."""
    if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
        return targets == "all-linear"
    return all(any(m == t or m.endswith(f".{t}") for t in targets) for m in linears)


def _read(path: Path) -> dict[str, np.ndarray]:
    return {
        name: _as_array(found["dtype"], found["data"]).reshape(found["shape"])
        for name, found in deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    }


def _as_array(dtype: str, data: bytes) -> np.ndarray:
    if dtype == "BF16":  # the upper half of the same number in 32 bits; numpy has no such type
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, "<f4" if dtype == "F32" else "<f2")


def _fitted(name: str, values: np.ndarray, rank: int, wanted: int, factor: float) -> np.ndarray:
    """Return a factor of the rank that is wanted; the second has the scale in it."""
    if not name.endswith(FACTORS):
        return values
    axis = FACTORS.index(next(each for each in FACTORS if name.endswith(each)))
    if values.ndim == 2 and values.shape[axis] == rank:  # noqa: PLR2004 - all else is refused next
        padding = [(0, 0), (0, 0)]
        padding[axis] = (0, wanted - rank)
        values = np.pad(values, padding)
    if axis == 1 and factor != 1:
        values = values.astype(np.float32) * np.float32(factor)
    return values
