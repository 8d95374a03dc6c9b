"""Sinks in which passes add up the gradients of the adapter's fp32 master weights."""

from __future__ import annotations

from typing import Protocol

import torch


class Gradients(Protocol):
    """A sink of gradients of master weights."""

    def add(self, master: torch.nn.Parameter, part: torch.Tensor, *, scale: float = 1.0) -> None:
        """Add ``scale · part``, in any number format, to the gradient of a master weight."""
        ...


class MasterGradients:
    """Adds gradients to ``grad`` of the master weights."""

    def add(self, master: torch.nn.Parameter, part: torch.Tensor, *, scale: float = 1.0) -> None:
        """See ``Gradients``."""
        if master.grad is None:
            master.grad = torch.zeros_like(master)
        master.grad.add_(part, alpha=scale)


class SeparateGradients:
    """The gradient sums of one worker, so that two workers never write to the same memory.

    The order of additions is the same in every run, whichever worker is faster.
    """

    def __init__(self) -> None:
        self._sums: dict[torch.nn.Parameter, torch.Tensor] = {}

    def add(self, master: torch.nn.Parameter, part: torch.Tensor, *, scale: float = 1.0) -> None:
        """See ``Gradients``."""
        known = self._sums.get(master)
        if known is None:
            known = self._sums[master] = torch.zeros_like(master, requires_grad=False)
        known.add_(part, alpha=scale)

    def add_to_masters(self) -> None:
        """Add the sums to ``grad`` of the master weights, and reset the sums to 0."""
        with torch.no_grad():
            for master, part in self._sums.items():
                MasterGradients().add(master, part)
            if self._sums:
                torch._foreach_zero_(list(self._sums.values()))
