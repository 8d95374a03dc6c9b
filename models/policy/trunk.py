"""Computes hidden states of reply tokens, by passes written here or by those of transformers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import torch

from models.policy.gradients import MasterGradients
from models.policy.kernels import TorchKernels, make_kernels
from models.policy.linear import LoraParameters
from models.policy.llama import LlamaTrunk, unsupported_reason
from models.policy.packing import pack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.policy.batch import MicroBatch
    from models.policy.gradients import Gradients
    from models.policy.kernels import Kernels

_log = logging.getLogger(__name__)


class Trunk(Protocol):
    """The layers of a decoder, without its output head.

    Attributes:
        concurrent: Whether several threads may run passes at once.
        kernels: The functions that compute.
    """

    concurrent: bool
    kernels: Kernels

    def refresh(self) -> None:
        """Copy the master weights to the weights that passes use."""
        ...

    def hidden(self, batch: MicroBatch, gradients: Gradients) -> torch.Tensor:
        """Return the last states that predict the reply tokens, row by row, ``[kept, H]``.

        A backward pass adds the gradients of the fp32 master weights to ``gradients``.
        """
        ...

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """Return the last states under the frozen base, ``[kept, H]``, without gradients."""
        ...

    def reference_layer(self, batch: MicroBatch, depth: int) -> torch.Tensor:
        """Return the base's states after ``depth`` >= 1 layers, ``[kept, H]``, no gradients."""
        ...


class PackedTrunk:
    """The hand-written passes for Llama-like models, over packed tokens."""

    concurrent = True

    def __init__(
        self,
        model: Any,
        master: Mapping[str, torch.nn.Parameter],
        *,
        scale: float,
        tokens: int,
        build_dir: Path | None,
    ) -> None:
        def lora_of(name: str) -> LoraParameters:
            key = f"base_model.model.{name}"
            return LoraParameters(master[f"{key}.lora_A.weight"], master[f"{key}.lora_B.weight"])

        self.kernels: Kernels = make_kernels(model, build_dir)
        self._layers = LlamaTrunk(
            model, lora_of, self.kernels, scale=scale, max_saved_tokens=tokens
        )

    def refresh(self) -> None:
        """See ``Trunk``."""
        self._layers.refresh()

    def hidden(self, batch: MicroBatch, gradients: Gradients) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.hidden(pack(batch), gradients)

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.reference_hidden(pack(batch))

    def reference_layer(self, batch: MicroBatch, depth: int) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.reference_layer(pack(batch), depth)


class TransformersTrunk:
    """The passes of transformers and peft, over padded rows, for any decoder.

    Args:
        model: The base inside peft's wrapper.
        wrapper: The wrapper, which can disable the adapter.
        working: The adapter's weights in the wrapper, by the names of the master weights.
        master: The fp32 master weights, whose ``grad`` takes the gradients.
    """

    concurrent = False  # autograd adds all gradients to the same working weights

    def __init__(
        self,
        model: Any,
        wrapper: Any,
        working: Mapping[str, torch.nn.Parameter],
        master: Mapping[str, torch.nn.Parameter],
    ) -> None:
        self.kernels: Kernels = TorchKernels()
        self._trunk = getattr(model, model.base_model_prefix)
        self._wrapper = wrapper
        for key, parameter in working.items():
            hook = _accumulate_into(master[key])
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def refresh(self) -> None:
        """Do nothing: ``Policy`` copies the master weights to the wrapper's."""

    def hidden(
        self,
        batch: MicroBatch,
        gradients: Gradients,  # noqa: ARG002 - the hooks add to ``grad``
    ) -> torch.Tensor:
        """See ``Trunk``."""
        states = self._trunk(
            input_ids=batch.ids, attention_mask=batch.attention, use_cache=False
        ).last_hidden_state
        return _reply_states(states, batch)

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        with torch.no_grad(), self._wrapper.disable_adapter():
            return self.hidden(batch, MasterGradients())

    def reference_layer(self, batch: MicroBatch, depth: int) -> torch.Tensor:
        """See ``Trunk``."""
        with torch.no_grad(), self._wrapper.disable_adapter():
            states = self._trunk(
                input_ids=batch.ids,
                attention_mask=batch.attention,
                use_cache=False,
                output_hidden_states=True,
            ).hidden_states[depth]
            return _reply_states(states, batch)


def _reply_states(states: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Return the states that predict the reply tokens: ``[B, S, H]`` to ``[kept, H]``."""
    rows, columns = batch.mask.nonzero(as_tuple=True)
    return states[rows, batch.reply_positions[rows, columns]]


def make_trunk(
    model: Any,
    wrapper: Any,
    working: Mapping[str, torch.nn.Parameter],
    master: Mapping[str, torch.nn.Parameter],
    *,
    scale: float,
    tokens: int,
    build_dir: Path | None,
) -> Trunk:
    """Return the fastest trunk that fits the model.

    Args:
        model: The base inside peft's wrapper.
        wrapper: The peft wrapper.
        working: The adapter's weights in the wrapper, by the names of the master weights.
        master: The fp32 master weights.
        scale: alpha / rank.
        tokens: The most tokens of a pass that saves all activations.
        build_dir: The folder of compiled libraries; None compiles none.
    """
    reason = unsupported_reason(model)
    if reason is None:
        return PackedTrunk(model, master, scale=scale, tokens=tokens, build_dir=build_dir)
    _log.info("Learning with transformers' own passes, which are slower: %s.", reason)
    return TransformersTrunk(model, wrapper, working, master)


def _accumulate_into(master: torch.nn.Parameter) -> Any:
    """Return a hook that adds a working weight's gradient to its master's."""

    def accumulate(working: torch.Tensor) -> None:
        if working.grad is not None:
            grad = working.grad.float()
            master.grad = grad if master.grad is None else master.grad.add_(grad)
            working.grad = None

    return accumulate
