"""LoRA adapters of several versions in one batch, for the generic runner.

The factors of all versions are concatenated along the rank, and a mask selects each row's version:
``y = W x + ((x · Aᵀ) ⊙ mask) · Bᵀ`` with ``A = [A1; A2; …]`` and ``B = [s1 B1, s2 B2, …]``. Any
number of versions takes two matrix products and no gather.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from models.adapters import CONFIG_FILE, WEIGHTS_FILE
from models.adapters.plain import not_plain
from models.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class Factors:
    """The LoRA factors of one module: ``a`` is ``[rank, in]``, ``b`` is ``[out, rank]``, scaled."""

    a: torch.Tensor
    b: torch.Tensor


Adapter = dict[str, Factors]
"""The low-rank factors by module name."""


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT LoRA folder, whose hashes the caller has verified, as fp32 on the CPU.

    Raises:
        AdapterError: The folder is not a plain LoRA adapter of linear layers.
    """
    config = json.loads((folder / CONFIG_FILE).read_text())
    reason = not_plain(config)
    if reason is not None:
        raise AdapterError(
            f"{folder} is not a plain LoRA adapter ({reason}): the engine cannot serve it."
        )
    tensors = load_file(folder / WEIGHTS_FILE)
    scale = config["lora_alpha"] / config["r"]
    adapter = {}
    for name, a in tensors.items():
        if name.endswith(_A):
            module = name.removesuffix(_A)
            adapter[module.removeprefix(_PREFIX)] = Factors(
                a=a.float(), b=tensors[module + _B].float() * scale
            )
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise AdapterError(
            f"{folder} holds numbers that are not finite: no reply can be made with them, so "
            "activate another version."
        )
    if not adapter or len(adapter) * 2 != len(tensors):
        raise AdapterError(f"{folder} holds no LoRA pairs, or tensors that are none.")
    return adapter


class LoraLinear(torch.nn.Module):
    """A frozen linear layer plus the low-rank factors of the current batch."""

    def __init__(self, inner: torch.nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.factors: Factors | None = None
        self.mask: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[rows, tokens, in]`` to ``[rows, tokens, out]``."""
        out: torch.Tensor = self.inner(x)
        if self.factors is None:
            return out
        low = torch.nn.functional.linear(x, self.factors.a)
        if self.mask is not None:
            low = low * self.mask
        return out + torch.nn.functional.linear(low, self.factors.b)


class BatchedLora:
    """Applies the adapters of one step to the linear layers of a model, row by row.

    Args:
        model: The model whose linear layers, but for the output head, are wrapped in place.
        names: The layers whose inputs keep the rows apart, ``[rows, tokens, in]``. No other layer
            can be adapted.
    """

    def __init__(self, model: torch.nn.Module, names: Collection[str]) -> None:
        self._modules = _wrap_linears(model, names)
        self._versions: tuple[str, ...] = ()
        self._chosen: tuple[Adapter, ...] = ()
        self._ranks: tuple[int, ...] = ()

    def check(self, adapter: Adapter) -> None:
        """Check that an adapter fits the layers of the model.

        Raises:
            AdapterError: The adapter has weights for other layers, or of other shapes.
        """
        for name, factors in adapter.items():
            module = self._modules.get(name)
            if module is None:
                raise AdapterError(
                    f"The adapter has weights for {name}, which this base lacks or which cannot be "
                    "adapted row by row: train one for its other linear layers."
                )
            wanted = (module.inner.out_features, module.inner.in_features)
            if (factors.b.shape[0], factors.a.shape[1]) != wanted:
                raise AdapterError(f"The adapter's weights for {name} have the wrong shape.")

    def select(self, versions: Iterable[str | None], adapters: Mapping[str, Adapter]) -> None:
        """Load the factors of a step's versions into the layers; None means the base."""
        self._versions = tuple(sorted({v for v in versions if v is not None}))
        chosen = tuple(adapters[version] for version in self._versions)
        # Compared by identity: an unloaded version may be loaded again with other weights.
        if [id(adapter) for adapter in chosen] == [id(adapter) for adapter in self._chosen]:
            return
        # Each version has one rank; different ranks by module would need a mask for each module.
        self._ranks = tuple(_rank(adapter) for adapter in chosen)
        for name, module in self._modules.items():
            module.factors = _concatenate([_factors(a, name, module.inner) for a in chosen])
        self._chosen = chosen

    def assign_rows(self, versions: Sequence[str | None]) -> None:
        """Apply ``versions[i]``, one of the step's, to row ``i`` of the next forward pass."""
        mask = self._mask(versions)
        for module in self._modules.values():
            module.mask = mask

    def _mask(self, versions: Sequence[str | None]) -> torch.Tensor | None:
        if not self._versions or (len(self._versions) == 1 and None not in versions):
            return None
        first = next(iter(self._modules.values())).inner.weight
        mask = first.new_zeros(len(versions), 1, sum(self._ranks))
        starts = {v: sum(self._ranks[:i]) for i, v in enumerate(self._versions)}
        for row, version in enumerate(versions):
            if version is not None:
                rank = self._ranks[self._versions.index(version)]
                mask[row, 0, starts[version] : starts[version] + rank] = 1
        return mask


def _wrap_linears(model: torch.nn.Module, names: Collection[str]) -> dict[str, LoraLinear]:
    """Wrap each named linear layer, but for the output head, in a ``LoraLinear``."""
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    found = {
        name: module
        for name, module in model.named_modules()
        if name in names and isinstance(module, torch.nn.Linear) and module is not head
    }
    wrapped = {}
    for name, module in found.items():
        parent, _, child = name.rpartition(".")
        wrapped[name] = LoraLinear(module)
        setattr(model.get_submodule(parent), child, wrapped[name])
    return wrapped


def _rank(adapter: Adapter) -> int:
    return next(iter(adapter.values())).a.shape[0]


def _factors(adapter: Adapter, name: str, inner: torch.nn.Linear) -> Factors:
    """Return the factors of a module; zeros if the adapter does not target it."""
    found = adapter.get(name)
    if found is not None:
        return found
    rank, weight = _rank(adapter), inner.weight
    return Factors(
        a=weight.new_zeros(rank, inner.in_features), b=weight.new_zeros(inner.out_features, rank)
    )


def _concatenate(factors: Sequence[Factors]) -> Factors | None:
    if not factors:
        return None
    if len(factors) == 1:
        return factors[0]
    return Factors(a=torch.cat([p.a for p in factors]), b=torch.cat([p.b for p in factors], dim=1))
