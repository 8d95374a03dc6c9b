"""Where the gradients of the adapter's fp32 masters are added up."""

from __future__ import annotations

from typing import Protocol

import torch


class Gradients(Protocol):
    """Takes gradients of masters, part by part."""

    def add(self, master: torch.nn.Parameter, part: torch.Tensor, *, scale: float = 1.0) -> None:
        """Add ``scale · part``, of any number format, to a master's gradient."""
        ...


class MasterGradients:
    """The masters' own: ``grad``."""

    def add(self, master: torch.nn.Parameter, part: torch.Tensor, *, scale: float = 1.0) -> None:
        """See ``Gradients``."""
        if master.grad is None:
            master.grad = torch.zeros_like(master)
        master.grad.add_(part, alpha=scale)


class SeparateGradients:
    """Sums of one worker's own, so that no two add to one place at a time.

    Which sum comes to which in what order is the same in every run, whoever was faster.
    """

    def __init__(self) -> None:
        self._sums: dict[torch.nn.Parameter, torch.Tensor] = {}

    def add(self, master: torch.nn.Parameter, part: torch.Tensor, *, scale: float = 1.0) -> None:
        """See ``Gradients``."""
        known = self._sums.get(master)
        if known is None:
            known = self._sums[master] = torch.zeros_like(master, requires_grad=False)
        known.add_(part, alpha=scale)

    def hand_over(self) -> None:
        """Add the sums to the masters' own, and start again from 0."""
        with torch.no_grad():
            for master, part in self._sums.items():
                MasterGradients().add(master, part)
            if self._sums:
                torch._foreach_zero_(list(self._sums.values()))
