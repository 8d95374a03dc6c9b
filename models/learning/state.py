"""The learner's state, which a version has besides its weights.

Adam's moments, the users' means, and where the random numbers stand: learning on from a
version's folder gives the same bits as not having stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models.adapters import STATE_FILE
from models.errors import AdapterError
from models.ppo.advantages import UserMean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FIRST, _SECOND, _RANDOM, _CRITIC = "exp_avg", "exp_avg_sq", "random", "critic"


@dataclass(frozen=True, slots=True)
class LearnerState:
    """The state at the end of a run.

    Attributes:
        step: Optimiser steps so far.
        first: Adam's first moments by parameter name.
        second: Adam's second moments by parameter name.
        users: Running mean reward of each user.
        random: State of the generator that draws the order of minibatches, ``[bytes]`` uint8;
            None before the first run.
        critic: The critic's head by parameter name; empty without one.
    """

    step: int = 0
    first: Mapping[str, torch.Tensor] = field(default_factory=dict)
    second: Mapping[str, torch.Tensor] = field(default_factory=dict)
    users: Mapping[str, UserMean] = field(default_factory=dict)
    random: torch.Tensor | None = None
    critic: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def generator(self, seed: int) -> torch.Generator:
        """Return the generator where it stood; a new one from ``seed`` before the first run."""
        generator = torch.Generator().manual_seed(seed)
        if self.random is not None:
            generator.set_state(self.random)
        return generator

    def slowed(self, share: float) -> LearnerState:
        """Return the state with Adam's first moments, its momentum, multiplied by ``share``."""
        return replace(self, first={name: share * moment for name, moment in self.first.items()})


def save_state(state: LearnerState, folder: Path) -> None:
    """Write the state into the folder of its adapter."""
    tensors = {f"{_FIRST}.{k}": v for k, v in state.first.items()}
    tensors |= {f"{_SECOND}.{k}": v for k, v in state.second.items()}
    tensors |= {f"{_CRITIC}.{k}": v for k, v in state.critic.items()}
    if state.random is not None:
        tensors[_RANDOM] = state.random
    users = {u: [m.total, m.count] for u, m in state.users.items()}
    rest = {"step": state.step, "users": users}
    save_file(tensors, folder / STATE_FILE, metadata={"state": json.dumps(rest, sort_keys=True)})


def load_state(folder: Path) -> LearnerState:
    """Read a version's state; a fresh one if it has none (an imported adapter).

    Raises:
        AdapterError: The file is there but cannot be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return LearnerState()
    try:
        with safe_open(path, framework="pt") as file:
            rest = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError) as error:
        raise AdapterError(f"{path} cannot be read: restore it from a backup.") from error
    return LearnerState(
        step=rest["step"],
        first=_named(tensors, _FIRST),
        second=_named(tensors, _SECOND),
        users={u: UserMean(*pair) for u, pair in rest["users"].items()},
        random=tensors.get(_RANDOM),
        critic=_named(tensors, _CRITIC),
    )


def restore_adam(
    optimizer: torch.optim.Adam, named: Mapping[str, torch.nn.Parameter], state: LearnerState
) -> None:
    """Give the optimiser the state's moments, so that a run does not start with a fresh Adam.

    Parameters without moments in the state, such as those of a new critic, start afresh.
    """
    for name, parameter in named.items():
        if name not in state.first:
            continue
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state.step), device=parameter.device),
            _FIRST: state.first[name].to(parameter.device, copy=True),
            _SECOND: state.second[name].to(parameter.device, copy=True),
        }


def adam_moments(
    optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return Adam's own first and second moments by parameter name."""
    first = {n: optimizer.state[p][_FIRST] for n, p in named.items() if p in optimizer.state}
    second = {n: optimizer.state[p][_SECOND] for n, p in named.items() if p in optimizer.state}
    return first, second


def _named(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
