"""What computes the states of reply tokens: our own passes where they fit, or transformers'."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import torch

from models.learning.linear import Pair
from models.learning.llama import LlamaTrunk, why_not
from models.learning.packing import pack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.batch import MicroBatch

_log = logging.getLogger(__name__)


class Trunk(Protocol):
    """A model's layers, without its head. Gradients are added to the adapter's fp32 masters."""

    def refresh(self) -> None:
        """Take the masters' numbers into the products."""
        ...

    def hidden(self, batch: MicroBatch) -> torch.Tensor:
        """Return the states that predict the reply tokens, row by row, ``[kept, H]``."""
        ...

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """Return the same under the frozen base, with no gradient."""
        ...


class PackedTrunk:
    """Our own passes for Llama-like models."""

    def __init__(
        self, model: Any, master: Mapping[str, torch.nn.Parameter], *, scale: float, tokens: int
    ) -> None:
        def pair_of(name: str) -> Pair:
            key = f"base_model.model.{name}"
            return Pair(master[f"{key}.lora_A.weight"], master[f"{key}.lora_B.weight"])

        self._layers = LlamaTrunk(model, pair_of, scale=scale, most_tokens=tokens)

    def refresh(self) -> None:
        """See ``Trunk``."""
        self._layers.refresh()

    def hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.hidden(pack(batch))

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        return self._layers.reference_hidden(pack(batch))


class TransformersTrunk:
    """transformers' and peft's passes, over padded rows, for any decoder.

    Args:
        model: The base inside peft's wrapper.
        wrapper: Switches the adapter off.
        working: The adapter's weights in the wrapper, by the masters' names.
        master: The fp32 masters.
    """

    def __init__(
        self,
        model: Any,
        wrapper: Any,
        working: Mapping[str, torch.nn.Parameter],
        master: Mapping[str, torch.nn.Parameter],
    ) -> None:
        self._trunk = getattr(model, model.base_model_prefix)
        self._wrapper = wrapper
        for key, parameter in working.items():
            hook = _hand_on_to(master[key])
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def refresh(self) -> None:
        """See ``Trunk``; the wrapper's weights are the policy's to copy."""

    def hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        states = self._trunk(
            input_ids=batch.ids, attention_mask=batch.attention, use_cache=False
        ).last_hidden_state
        rows, columns = batch.mask.nonzero(as_tuple=True)
        kept: torch.Tensor = states[rows, batch.reply_positions[rows, columns]]
        return kept

    def reference_hidden(self, batch: MicroBatch) -> torch.Tensor:
        """See ``Trunk``."""
        with torch.no_grad(), self._wrapper.disable_adapter():
            return self.hidden(batch)


def make_trunk(
    model: Any,
    wrapper: Any,
    working: Mapping[str, torch.nn.Parameter],
    master: Mapping[str, torch.nn.Parameter],
    *,
    scale: float,
    tokens: int,
) -> Trunk:
    """Return the fastest trunk that fits the model; ``tokens`` is how many it keeps states of."""
    reason = why_not(model)
    if reason is None:
        return PackedTrunk(model, master, scale=scale, tokens=tokens)
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
