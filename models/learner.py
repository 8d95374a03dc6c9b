"""One PPO update: a frozen batch of votes in, an adapter and a report out (design §9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from models.adapters import AdapterStore, Origin
from models.base import load_base
from models.batch import check_samples, collate, micro_batches
from models.errors import LearningError
from models.learner_state import (
    LearnerState,
    adam_moments,
    load_state,
    restore_adam,
    save_state,
)
from models.policy import Policy, of_reply, spread
from models.ppo import kl
from models.ppo.advantages import update_user_means
from models.ppo.losses import policy_loss
from models.ppo.masked import effective_sample_size, masked_mean, masked_sum
from models.probes import probe_policy
from models.scored_batch import ScoredBatch, score_batch
from models.timing import Stopwatch
from models.types import BASE, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.adapters import Manifest
    from models.batch import MicroBatch
    from models.gate import GateFigures
    from models.settings import LearnerSettings
    from models.types import Sample

ADAM_EPS = 1e-5
USER_DECAY = 0.95
"""What a user's past counts for after each further run."""
KL_HORIZON = 1_000.0
"""Votes over which β reacts fully to its error."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What an update produced.

    Attributes:
        write_files: Writes the adapter and the learner's state into a folder.
        report: Figures of the update, JSON-able.
    """

    write_files: Callable[[Path], None]
    report: dict[str, Any]


@dataclass(slots=True)
class Trace:
    """What the epochs saw, step by step."""

    losses: list[float] = field(default_factory=list)
    clip_fractions: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    step_kls: list[float] = field(default_factory=list)
    stopped_early: bool = False


class Learner:
    """Loads the base once; learns, publishes and probes."""

    def __init__(self, settings: LearnerSettings) -> None:
        if settings.learner_threads:
            torch.set_num_threads(settings.learner_threads)
        self._settings = settings
        self._store = AdapterStore(settings.adapters_dir)
        self._base = load_base(settings)
        self._policy = Policy(self._base, settings)

    def learn(
        self,
        samples: Sequence[Sample],
        *,
        parent: str,
        seed: int,
        progress: Callable[[Progress], None],
        replay: Sequence[Sample] = (),
    ) -> Learned:
        """Run one update from ``parent`` on a frozen batch.

        Args:
            samples: The batch.
            parent: The version to start from, or ``base``.
            seed: Fixes the new adapter's weights and the order of minibatches.
            progress: Told how far it is.
            replay: Votes of earlier updates to learn from once more; what the policy has since
                become counts through their weights.

        Raises:
            LearningError: The batch cannot be learned from, or the result is not finite.
            AdapterError: The parent is missing, broken or of another shape.
        """
        stopwatch = Stopwatch()
        batch = [*samples, *replay]
        check_samples(batch)
        # 1. Start from the parent's weights and state.
        with stopwatch.phase("load"):
            state = self._start_from(parent, seed)
            optimizer = self._optimizer(state)
        # 2. Fix what the batch looks like at the start of the update.
        with stopwatch.phase("score"):
            scored = self._score(batch, state, progress)
        # 3. Learn for N epochs.
        with stopwatch.phase("learn"):
            trace = self._epochs(batch, scored, optimizer, seed, progress)
        self._check_finite()
        # 4. Measure where the policy went, and carry the state on.
        with stopwatch.phase("measure"):
            report = self._report(samples, scored, trace, state)
        after = self._state_after(samples, optimizer, state, report)
        report["seconds"] = stopwatch.seconds

        def write_files(folder: Path) -> None:
            self._policy.save(folder)
            save_state(after, folder)

        return Learned(write_files=write_files, report=report)

    def publish(
        self,
        learned: Learned,
        *,
        sequence: int,
        parent: str,
        batch_hash: str,
        fence: int,
        now: float,
    ) -> Manifest:
        """Save what was learned as an immutable version."""
        origin = Origin(
            parent=parent,
            run=sequence,
            batch_hash=batch_hash,
            fence=fence,
            base_model=self._base.name,
            base_hash=self._base.content_hash,
            created_at=now,
        )
        return self._store.publish(sequence, origin, learned.write_files)

    def probe(self, version: str, progress: Callable[[Progress], None]) -> GateFigures:
        """Measure a published version, read back from its folder, for the gate."""
        self._store.verify(version)
        self._policy.load(self._store.path(version))
        return probe_policy(self._policy, progress)

    def _start_from(self, parent: str, seed: int) -> LearnerState:
        fresh = LearnerState(beta=self._settings.kl_start)
        if parent == BASE:
            self._policy.reset(seed)
            return fresh
        self._store.verify(parent)
        self._policy.load(self._store.path(parent))
        return load_state(self._store.path(parent), beta=fresh.beta)

    def _optimizer(self, state: LearnerState) -> torch.optim.Adam:
        optimizer = torch.optim.Adam(
            self._policy.master.values(), lr=self._settings.learning_rate, eps=ADAM_EPS
        )
        restore_adam(optimizer, self._policy.master, state)
        return optimizer

    def _score(
        self,
        samples: Sequence[Sample],
        state: LearnerState,
        progress: Callable[[Progress], None],
    ) -> ScoredBatch:
        """Compute start and reference log-probs, weights and advantages of the whole batch."""
        device = self._settings.device
        whole = collate(samples, range(len(samples)), device=device)
        start, reference = torch.zeros_like(whole.behaviour), torch.zeros_like(whole.behaviour)
        done = 0
        with torch.no_grad():
            for micro in self._micro_batches(samples, range(len(samples))):
                width = micro.mask.shape[1]
                rows = list(micro.rows)
                start[rows, :width] = self._policy.logprobs(micro)
                reference[rows, :width] = self._policy.reference_logprobs(micro)
                done += len(rows)
                progress(Progress("score", done, len(samples)))
        return score_batch(samples, whole, start, reference, state, self._settings)

    def _epochs(
        self,
        samples: Sequence[Sample],
        scored: ScoredBatch,
        optimizer: torch.optim.Adam,
        seed: int,
        progress: Callable[[Progress], None],
    ) -> Trace:
        trace = Trace()
        order = torch.Generator().manual_seed(seed)
        size = self._settings.minibatch or len(samples)
        for epoch in range(self._settings.epochs):
            shuffled = torch.randperm(len(samples), generator=order).tolist()
            minibatches = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
            kls = []
            for number, rows in enumerate(minibatches, start=epoch * len(minibatches) + 1):
                kls.append(self._step(samples, rows, scored, optimizer, trace))
                total = self._settings.epochs * len(minibatches)
                progress(Progress("learn", number, total))
            trace.step_kls.append(sum(kls) / len(kls))
            if trace.step_kls[-1] > self._settings.max_step_kl:
                trace.stopped_early = True
                break
        return trace

    def _step(
        self,
        samples: Sequence[Sample],
        rows: Sequence[int],
        scored: ScoredBatch,
        optimizer: torch.optim.Adam,
        trace: Trace,
    ) -> float:
        """Take one optimiser step on ``rows``; return the KL per token to the start policy."""
        loss_sum = clip_sum = kl_sum = 0.0
        for micro in self._micro_batches(samples, rows):
            share = len(micro.rows) / len(rows)
            part = scored.cut(micro)
            distributions = self._policy.distributions(micro)
            new = of_reply(distributions, micro)
            result = policy_loss(
                new,
                part.start,
                part.advantages,
                part.weights,
                part.kept,
                clip=self._settings.clip,
                length_constant=self._settings.length_constant,
            )
            loss = result.loss + self._kl_loss(distributions, part)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.item() * share
            clip_sum += result.clip_fraction.item() * share
            kl_sum += masked_mean(kl.k3(part.start, new.detach()), part.kept).item() * share
        self._policy.collect_gradients()
        norm = torch.nn.utils.clip_grad_norm_(
            self._policy.master.values(), self._settings.max_grad_norm
        )
        if not norm.isfinite():
            raise LearningError("The gradient is not finite: the batch holds something extreme.")
        optimizer.step()
        self._policy.publish_master()
        trace.losses.append(loss_sum)
        trace.clip_fractions.append(clip_sum)
        trace.grad_norms.append(norm.item())
        return kl_sum

    def _kl_loss(self, distributions: torch.Tensor, part: ScoredBatch) -> torch.Tensor:
        """Return β · KL to the base, summed over tokens as the policy loss is; 0 in reward form."""
        if part.loss_beta == 0:
            return distributions.new_zeros(())
        reference = self._policy.reference_distributions(part.batch)
        kl_BT = spread(kl.full(distributions, reference), part.batch)
        per_reply = masked_sum(kl_BT, part.batch.mask).mean()
        return part.loss_beta * per_reply / self._settings.length_constant

    def _micro_batches(self, samples: Sequence[Sample], rows: Sequence[int]) -> list[MicroBatch]:
        return micro_batches(
            samples, rows, size=self._settings.micro_batch, device=self._settings.device
        )

    def _check_finite(self) -> None:
        if not all(m.isfinite().all() for m in self._policy.master.values()):
            raise LearningError("The update made weights that are not finite.")

    def _report(
        self, samples: Sequence[Sample], scored: ScoredBatch, trace: Trace, state: LearnerState
    ) -> dict[str, Any]:
        rewards = [s.reward for s in samples]
        mask = scored.batch.mask[: len(samples)]
        kl_B = masked_sum(kl.k1(scored.start, scored.reference)[: len(samples)], mask)
        return {
            "votes": len(samples),
            "replayed": len(scored.kept) - len(samples),
            "dropped_as_stale": int((~scored.kept.any(-1)).sum()),
            "up": sum(r > 0 for r in rewards),
            "down": sum(r < 0 for r in rewards),
            "reward_mean": sum(rewards) / len(rewards),
            "tokens": int(mask.sum()),
            "reply_tokens_mean": float(mask.sum() / len(samples)),
            "kl_per_reply": kl_B.mean().item(),
            "beta": state.beta,
            "effective_sample_size": effective_sample_size(scored.weights, scored.kept).item(),
            "clip_fraction": _mean(trace.clip_fractions),
            "loss_first": trace.losses[0],
            "loss_last": trace.losses[-1],
            "grad_norm": _mean(trace.grad_norms),
            "step_kl": trace.step_kls[-1],
            "epochs": len(trace.step_kls),
            "steps": len(trace.losses),
            "stopped_early": trace.stopped_early,
        }

    def _state_after(
        self,
        samples: Sequence[Sample],
        optimizer: torch.optim.Adam,
        before: LearnerState,
        report: dict[str, Any],
    ) -> LearnerState:
        first, second = adam_moments(optimizer, self._policy.master)
        users, rewards = [s.user for s in samples], [s.reward for s in samples]
        return LearnerState(
            beta=kl.adapt_beta(
                before.beta,
                kl=report["kl_per_reply"],
                target=self._settings.kl_target,
                votes=len(samples),
                horizon=KL_HORIZON,
            ),
            step=before.step + report["steps"],
            first=first,
            second=second,
            users=update_user_means(before.users, users, rewards, decay=USER_DECAY),
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
