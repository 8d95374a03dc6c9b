"""What computes the states of reply tokens: our own passes where they fit, or transformers'."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import torch

from models.policy.gradients import MasterGradients
from models.policy.kernels import TorchKernels, make_kernels
from models.policy.linear import LowRankPair
from models.policy.llama import LlamaTrunk, why_not
from models.policy.packing import pack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.policy.batch import MicroBatch
    from models.policy.gradients import Gradients
    from models.policy.kernels import Kernels

_log = logging.getLogger(__name__)


class Trunk(Protocol):
    """A model's layers, without its head.

    Attributes:
        concurrent: Whether several threads may go through it at a time.
        kernels: What computes.
    """

    concurrent: bool
    kernels: Kernels

    def refresh(self) -> None:
        """Take the masters' numbers into the products."""
        ...

    def hidden(self, batch: MicroBatch, gradients: Gradients) -> torch.Tensor:
        """Return the states that predict the reply tokens, row by row, ``[kept, H]``.

        A backward pass adds to ``gradients`` of the adapter's fp32 masters.
        """
        ...

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """Return the same under the frozen base, with no gradient."""
        ...

    def reference_middle(self, batch: MicroBatch, depth: int) -> torch.Tensor:
        """Return the base's states after ``depth`` layers instead, at least 1."""
        ...


class PackedTrunk:
    """Our own passes for Llama-like models."""

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
        def pair_of(name: str) -> LowRankPair:
            key = f"base_model.model.{name}"
            return LowRankPair(master[f"{key}.lora_A.weight"], master[f"{key}.lora_B.weight"])

        self.kernels: Kernels = make_kernels(model, build_dir)
        self._layers = LlamaTrunk(model, pair_of, self.kernels, scale=scale, most_tokens=tokens)

    def refresh(self) -> None:
        """See ``Trunk``."""
        self._layers.refresh()

    def hidden(self, batch: MicroBatch, gradients: Gradients) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.hidden(pack(batch), gradients)

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.reference_hidden(pack(batch))

    def reference_middle(self, batch: MicroBatch, depth: int) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.reference_middle(pack(batch), depth)


class TransformersTrunk:
    """transformers' and peft's passes, over padded rows, for any decoder.

    Args:
        model: The base inside peft's wrapper.
        wrapper: Switches the adapter off.
        working: The adapter's weights in the wrapper, by the masters' names.
        master: The fp32 masters, whose own gradients are added to.
    """

    concurrent = False  # the wrapper's weights have one gradient

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
            if parameter.requires_grad:
                hook = _hand_on_to(master[key])
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def refresh(self) -> None:
        """See ``Trunk``; the wrapper's weights are the policy's to copy."""

    def hidden(self, batch: MicroBatch, gradients: Gradients) -> torch.Tensor:  # noqa: ARG002 - its hooks know the masters
        """See ``Trunk``."""
        states = self._trunk(
            input_ids=batch.ids, attention_mask=batch.attention, use_cache=False
        ).last_hidden_state
        return _at_replies(states, batch)

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        with torch.no_grad(), self._wrapper.disable_adapter():
            return self.hidden(batch, MasterGradients())

    def reference_middle(self, batch: MicroBatch, depth: int) -> torch.Tensor:
        """See ``Trunk``."""
        with torch.no_grad(), self._wrapper.disable_adapter():
            states = self._trunk(
                input_ids=batch.ids,
                attention_mask=batch.attention,
                use_cache=False,
                output_hidden_states=True,
            ).hidden_states[depth]
            return _at_replies(states, batch)


def _at_replies(states: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
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
        wrapper: That.
        working: The adapter's weights in the wrapper, by the masters' names.
        master: The fp32 masters.
        scale: alpha / rank.
        tokens: How many a pass keeps all states of.
        build_dir: Where compiled kernels are kept; None compiles none.
    """
    reason = why_not(model)
    if reason is None:
        return PackedTrunk(model, master, scale=scale, tokens=tokens, build_dir=build_dir)
    _log.info("Learning with transformers' own passes, which are slower: %s.", reason)
    return TransformersTrunk(model, wrapper, working, master)


def _hand_on_to(master: torch.nn.Parameter) -> Any:
    """Return a hook that adds a working weight's gradient to its master's."""

    def hand_on(working: torch.Tensor) -> None:
        if working.grad is not None:
            grad = working.grad.float()
            master.grad = grad if master.grad is None else master.grad.add_(grad)
            working.grad = None

    return hand_on
