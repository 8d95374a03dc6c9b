"""The frozen base with a trainable LoRA adapter: log-probs of replies, and the adapter's files."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from models.adapters import CONFIG_FILE, WEIGHTS_FILE
from models.errors import AdapterError
from models.policy.batch import micro_batches
from models.policy.gradients import MasterGradients
from models.policy.head import token_logprobs
from models.policy.trunk import make_trunk
from models.policy.workers import Workers
from models.ppo.kl import k1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from models.base.loading import Base
    from models.policy.batch import MicroBatch
    from models.policy.gradients import Gradients
    from models.settings import LearnerSettings
    from models.types import Sample

_Result = TypeVar("_Result")

_ADAPTER = "default"

_MIN_WORKER_TOKENS = 512
"""The fewest tokens of a pass for which a second worker pays."""


@dataclass(frozen=True, slots=True)
class ReplyScores:
    """The log-probs of replies under a policy, ``[B, T]`` fp32; 0 where masked out.

    Attributes:
        logprobs: The log-probs of the reply tokens at their sampling temperature, in nats.
        kl: The KL to the base over the whole vocabulary at each position; 0 without a reference.
        states: The last hidden states of the reply positions, row by row, ``[kept, H]``, detached.
    """

    logprobs: torch.Tensor
    kl: torch.Tensor
    states: torch.Tensor


@dataclass(frozen=True, slots=True)
class PolicyMeasurement:
    """The scores of replies at the start of an update, under the policy and under the base.

    Attributes:
        start: The log-probs under the policy, ``[B, T]`` fp32, in nats.
        kl: The KL to the base, ``[B, T]`` fp32: exact over the vocabulary, or estimated from the
            sampled tokens (``kl.k1``).
        states: The policy's last hidden states at the reply positions, row by row, ``[kept, H]``.
        reference_states: The base's last hidden states at the same positions, ``[kept, H]``. An
            update keeps these instead of distributions: 1 KB instead of 100 KB for each token.
            The head computes the exact distributions from them.
    """

    start: torch.Tensor
    kl: torch.Tensor
    states: torch.Tensor
    reference_states: torch.Tensor


class Policy:
    """One model in memory: the policy with the adapter on, the reference with the adapter off.

    Passes run in the base's number format. Training updates an fp32 master copy of the adapter,
    which is also what is saved.

    Attributes:
        master: The fp32 master weights, by the names of PEFT's files.
        workers: The threads that run passes in parallel.
        pass_tokens: The most tokens of one pass.
    """

    def __init__(self, base: Base, settings: LearnerSettings) -> None:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=base.name,
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
        )
        self.base = base
        with warnings.catch_warnings():
            # peft warns that the base's name is not a folder, which is intended. It also reads an
            # attribute that transformers deprecates.
            warnings.simplefilter("ignore")
            self.model = get_peft_model(base.model, config, autocast_adapter_dtype=False)
        self.model.eval()  # passes must be repeatable, so dropout must be off
        self._config = self.model.peft_config[_ADAPTER]
        self._config.base_model_name_or_path = base.name
        self._working = {
            self._key(name): parameter
            for name, parameter in self.model.named_parameters()
            if "lora_" in name
        }
        self.master = {
            key: torch.nn.Parameter(parameter.detach().float().clone())
            for key, parameter in self._working.items()
        }
        self._trunk = make_trunk(
            base.model,
            self.model,
            self._working,
            self.master,
            scale=settings.lora_alpha / settings.lora_rank,
            tokens=settings.micro_batch_tokens,
            build_dir=None if settings.runner == "transformers" else settings.data_dir / "native",
        )
        threads, room = torch.get_num_threads(), settings.micro_batch_tokens // _MIN_WORKER_TOKENS
        count = max(1, min(threads, room)) if self._trunk.concurrent else 1
        self.workers = Workers(count, torch_threads=threads // count)
        self.pass_tokens = settings.micro_batch_tokens // count

    @staticmethod
    def _key(name: str) -> str:
        """Return the name of a parameter in PEFT's files."""
        return name.replace(f".{_ADAPTER}.", ".")

    def reset(self, seed: int) -> None:
        """Initialise the adapter to change nothing: A random, B zero (arXiv 2106.09685)."""
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, master in self.master.items():
                if ".lora_B." in key:
                    master.zero_()
                else:
                    bound = master.shape[1] ** -0.5
                    drawn = torch.rand(master.shape, generator=random)
                    master.copy_((drawn * 2 - 1) * bound)
        self.publish_master()

    def load(self, folder: Path) -> None:
        """Load the weights of an adapter folder, whose hashes the caller has verified.

        Raises:
            AdapterError: The rank, alpha or layers differ from those of this policy.
        """
        config = json.loads((folder / CONFIG_FILE).read_text())
        tensors = load_file(folder / WEIGHTS_FILE)
        wanted = (self._config.r, self._config.lora_alpha)
        if (config.get("r"), config.get("lora_alpha")) != wanted:
            raise AdapterError(
                f"{folder} has rank {config.get('r')} and alpha {config.get('lora_alpha')}, but "
                f"the settings say {wanted[0]} and {wanted[1]}: set THUMBLOOP_LORA_RANK and "
                "THUMBLOOP_LORA_ALPHA to the adapter's, or activate base to start anew."
            )
        if tensors.keys() != self.master.keys():
            raise AdapterError(f"{folder} does not adapt the same layers as this policy.")
        with torch.no_grad():
            for key, master in self.master.items():
                master.copy_(tensors[key])
        self.publish_master()

    def save(self, folder: Path) -> None:
        """Write the adapter's configuration and weights as PEFT's two files."""
        config = self._config.to_dict()
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        plain["inference_mode"] = True
        (folder / CONFIG_FILE).write_text(json.dumps(plain, indent=2, sort_keys=True))
        weights = {key: m.detach().cpu().contiguous() for key, m in self.master.items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    def publish_master(self) -> None:
        """Copy the master weights to the working weights that passes use."""
        with torch.no_grad():
            for key, parameter in self._working.items():
                parameter.copy_(self.master[key])
        self._trunk.refresh()

    def score(
        self,
        batch: MicroBatch,
        reference: torch.Tensor | None = None,
        gradients: Gradients | None = None,
    ) -> ReplyScores:
        """Compute log-probs of the reply tokens and their KL to the base, with gradients.

        Args:
            batch: The replies.
            reference: The base's states, ``PolicyMeasurement.reference_states``. If None, KL is 0.
            gradients: The sink of the master weights' gradients; None adds them to ``grad``.
        """
        states = self._trunk.hidden(batch, gradients or MasterGradients())
        return self._scores(states, batch, reference)

    @torch.no_grad()
    def measure(self, batch: MicroBatch, *, sampled_kl: bool = False) -> PolicyMeasurement:
        """Compute the scores that stay fixed during an update.

        An adapter that changes nothing needs one pass instead of two.

        Args:
            batch: The replies.
            sampled_kl: Whether KL is estimated from the sampled tokens instead of exact.
        """
        states = self._trunk.hidden(batch, MasterGradients())
        if self._is_base():
            found = self._scores(states, batch)
            return PolicyMeasurement(found.logprobs, found.kl, states, states)
        base = self._trunk.reference_hidden(batch)
        if sampled_kl:
            start = self._scores(states, batch).logprobs
            return PolicyMeasurement(
                start, k1(start, self._scores(base, batch).logprobs), states, base
            )
        found = self._scores(states, batch, base)
        return PolicyMeasurement(found.logprobs, found.kl, states, base)

    def passes(
        self, task: Callable[[MicroBatch], _Result], samples: Sequence[Sample]
    ) -> Iterator[tuple[MicroBatch, _Result]]:
        """Split replies into passes, run a task on each in parallel, and yield both in order."""
        rows, device = range(len(samples)), str(self.base.model.device)
        micros = micro_batches(samples, rows, tokens=self.pass_tokens, device=device)
        yield from zip(micros, self.workers.map(task, micros), strict=True)

    def reply_logprobs(
        self, samples: Sequence[Sample], *, reference: bool = False
    ) -> list[torch.Tensor]:
        """Compute log-probs of many replies in parallel, without gradients.

        Args:
            samples: The replies.
            reference: Whether the frozen base scores them instead of the policy.

        Returns:
            The log-probs of each reply's tokens at its sampling temperature, ``[tokens]`` fp32.
        """
        score = self.reference_logprobs if reference else torch.no_grad()(self.logprobs)
        found = [torch.empty(0)] * len(samples)
        for micro, scored in self.passes(score, samples):
            for row, values, mask in zip(micro.rows, scored, micro.mask, strict=True):
                found[row] = values[mask].cpu()
        return found

    def logprobs(self, batch: MicroBatch) -> torch.Tensor:
        """Return the policy's log-probs of the reply tokens, ``[B, T]`` fp32, with gradients."""
        return self.score(batch).logprobs

    @torch.no_grad()
    def reference_logprobs(self, batch: MicroBatch) -> torch.Tensor:
        """Return the frozen base's log-probs of the reply tokens, ``[B, T]`` fp32."""
        return self._scores(self._trunk.reference_hidden(batch), batch).logprobs

    @torch.no_grad()
    def reference_means(self, batch: MicroBatch, *, depth: int) -> torch.Tensor:
        """Return the mean of the base's states after ``depth`` layers of each reply, ``[B, H]``.

        The mean is over the positions whose states predict the reply's tokens.
        """
        states = self._trunk.reference_layer(batch, depth).float()
        of_rows = torch.split(states, batch.mask.sum(-1).tolist())
        return torch.stack([of_row.mean(0) for of_row in of_rows])

    def _is_base(self) -> bool:
        """Return whether the adapter changes nothing, like a new one."""
        return not any(m.any() for key, m in self.master.items() if ".lora_B." in key)

    def _scores(
        self, hidden: torch.Tensor, batch: MicroBatch, reference: torch.Tensor | None = None
    ) -> ReplyScores:
        temperature = batch.temperature[:, None].expand_as(batch.mask)[batch.mask]
        head = self.base.model.get_output_embeddings()
        logprobs, kl = token_logprobs(
            hidden, batch.reply_ids[batch.mask], temperature, head, reference, self._trunk.kernels
        )
        return ReplyScores(spread(logprobs, batch), spread(kl, batch), hidden.detach())


def spread(values: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Scatter ``[kept]`` values to their positions in ``[B, T]``; other positions are 0."""
    out = torch.zeros(batch.mask.shape, device=values.device)
    return out.masked_scatter(batch.mask, values)
