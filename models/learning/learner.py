"""One PPO update: a frozen batch of votes in, an adapter and a report out.

``Learner.learn`` has the steps of an update. Each step is a call into a module of this folder:

    1  recover log-probs        scoring
    2  start from the parent    state, schedule, caution
    3  weigh the votes          evidence: features, surface, reward_model
    4  learn from the votes     iterations: scoring, scored_batch, epochs, objective, corrections
    5  practise                 practice: features, reward_model, iterations
    6  report                   report, state
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from models.adapters import AdapterStore, Origin
from models.base.loading import load_base
from models.errors import LearningError
from models.learning.caution import cautious, rate_share
from models.learning.corrections import has_corrections
from models.learning.evidence import weigh
from models.learning.iterations import Iterations, after_votes, divide
from models.learning.outcome import evidence_of
from models.learning.practice import Practice
from models.learning.report import recovery_figures, update_figures, vote_figures
from models.learning.schedule import share_of_rate
from models.learning.scoring import recover_behaviour, without_logprobs
from models.learning.state import (
    LearnerState,
    adam_moments,
    load_state,
    restore_adam,
    save_state,
)
from models.memory import give_back_freed_memory, keep_few_kernels, share_one_heap
from models.policy.batch import unusable
from models.policy.policy import Policy
from models.ppo.critic import ValueHead
from models.probes.probe import probe_policy
from models.recipe import described
from models.timing import Stopwatch, peak_memory_mib
from models.types import BASE, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.adapters import Manifest
    from models.gate import GateFigures
    from models.learning.evidence import Evidence
    from models.recipe import Recipe
    from models.settings import LearnerSettings
    from models.types import Sample

CRITIC_ADAM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Learned:
    """What an update produced.

    Attributes:
        write_files: Writes the adapter and the learner's state into a folder.
        report: Figures of the update, JSON-able.
    """

    write_files: Callable[[Path], None]
    report: dict[str, Any]


class Learner:
    """Loads the base once; learns, publishes and measures versions."""

    def __init__(self, settings: LearnerSettings) -> None:
        if settings.learner_threads:
            torch.set_num_threads(settings.learner_threads)
        keep_few_kernels(torch.get_num_threads())
        share_one_heap()
        self._settings, self._recipe = settings, settings.effective_recipe
        self._store = AdapterStore.open(settings)
        self._base = load_base(settings)
        self._policy = Policy(self._base, settings)
        give_back_freed_memory()  # of copies that loading made
        self._critic = self._make_critic() if self._recipe.advantage == "critic" else None

    def learn(
        self,
        samples: Sequence[Sample],
        *,
        parent: str,
        seed: int,
        progress: Callable[[Progress], None],
        earlier: Sequence[Sample] = (),
        setbacks: int = 0,
    ) -> Learned:
        """Run one update from ``parent`` on a frozen batch.

        A vote that cannot be learned from is left out, and the report says why.

        Args:
            samples: The batch.
            parent: The version to start from, or ``base``.
            seed: Fixes the new adapter's weights and the order of minibatches.
            progress: Is called with the progress.
            earlier: Votes of earlier updates, for the reward model of practice.
            setbacks: How many of the parent's last updates were rejected or rolled back; each
                makes this one more cautious.

        Raises:
            LearningError: The batch cannot be learned from, or the result is not finite.
            AdapterError: The parent is missing, broken or of another shape.
        """
        usable, reasons = self._usable(samples)
        if not usable:
            why = f"No vote of the batch can be learned from. {reasons[0]}" if reasons else None
            raise LearningError(why or "The batch is empty: there is nothing to learn from.")
        learned = self._learn(
            usable, self._usable(earlier)[0], parent, seed, progress, setbacks=setbacks
        )
        return replace(learned, report={**learned.report, "unusable": reasons})

    def _learn(
        self,
        samples: Sequence[Sample],
        earlier: Sequence[Sample],
        parent: str,
        seed: int,
        progress: Callable[[Progress], None],
        *,
        setbacks: int,
    ) -> Learned:
        stopwatch, recipe = Stopwatch(), cautious(self._recipe, setbacks)
        # 1. Compute the log-probs that are missing; leave out votes where that cannot be done.
        with stopwatch.phase("recover"):
            known = self._recover(samples)
        # 2. Start from the parent's weights and state.
        with stopwatch.phase("load"):
            state = self._start_from(parent, seed)
            optimizer = self._optimizer(state, recipe.learning_rate)
            order = state.generator(seed)
        # 3. Leave the policy where it is if the votes cannot be told from noise.
        everything = [*earlier, *known]
        evidence = model = None
        if recipe.practice_rounds:
            with stopwatch.phase("reward_model"):
                most = recipe.reward_model_votes
                evidence = weigh(everything, self._policy, most=most)
            model = None if evidence.shortcoming else evidence.model
            if model is None and not has_corrections(known, recipe):
                return self._leave(samples, known, evidence, state, setbacks, stopwatch)
        # 4. Learn from the votes in PPO iterations, each from the weights of the one before it.
        baselines: Sequence[float] | None = None
        if evidence and not model:  # only the corrections teach something
            recipe = replace(recipe, advantage="expected")
            baselines = [vote.reward for vote in known]
        elif evidence and recipe.advantage == "expected":
            baselines = evidence.baselines[len(earlier) :]
        parts = divide(known, votes=recipe.iteration_votes, baselines=baselines)
        schedule = self._schedule(optimizer, state)
        iterations = self._iterations(recipe, schedule, order, stopwatch)
        state, found = iterations.run_all(parts, state, progress)
        # 5. Practise: learn from the policy's own replies, as a model of the votes rates them.
        practised: dict[str, Any] = {}
        if model:
            practice = Practice(self._policy, self._base, recipe, self._settings, order, stopwatch)
            practised = practice.run(everything, model, iterations, state, progress)
        # 6. Refuse weights that are not finite; report the rest, and keep the state.
        self._check_finite()
        report = {
            **update_figures(found),
            "evidence": evidence.figures() if evidence else {},
            "practice": practised,
            **self._circumstances(samples, known, setbacks, stopwatch),
        }
        steps = report["steps"] + practised.get("steps", 0)
        after = self._state_after(state, optimizer, order, steps)
        return Learned(partial(self._write, after.slowed(rate_share(setbacks))), report)

    def _iterations(
        self, recipe: Recipe, schedule: LambdaLR, order: torch.Generator, stopwatch: Stopwatch
    ) -> Iterations:
        return Iterations(
            self._policy,
            self._base,
            recipe,
            self._settings,
            schedule,
            order,
            stopwatch,
            self._critic,
        )

    def _leave(
        self,
        samples: Sequence[Sample],
        known: Sequence[Sample],
        evidence: Evidence,
        state: LearnerState,
        setbacks: int,
        stopwatch: Stopwatch,
    ) -> Learned:
        """Return the parent's weights, with a report that says why.

        The state has the votes in the users' means, and less momentum after setbacks.
        """
        after = after_votes(known, state).slowed(rate_share(setbacks))
        report = {
            **vote_figures(known),
            "steps": 0,
            "evidence": evidence.figures(),
            "practice": {},
            **self._circumstances(samples, known, setbacks, stopwatch),
        }
        return Learned(partial(self._write, after), report)

    def _circumstances(
        self,
        samples: Sequence[Sample],
        known: Sequence[Sample],
        setbacks: int,
        stopwatch: Stopwatch,
    ) -> dict[str, Any]:
        """Return what every report has, whether the policy moved or not."""
        return {
            **recovery_figures(samples, known),
            "recipe": described(self._recipe),
            "setbacks": setbacks,
            "seconds": stopwatch.seconds,
            "peak_memory_mib": peak_memory_mib(),
        }

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
        """Publish what was learned as an immutable version."""
        origin = Origin(
            parent=parent,
            run=sequence,
            batch_hash=batch_hash,
            fence=fence,
            base_model=self._base.name,
            base_hash=self._base.content_hash,
            created_at=now,
            figures=learned.report,
        )
        return self._store.publish(sequence, origin, learned.write_files)

    def probe(self, version: str, progress: Callable[[Progress], None]) -> GateFigures:
        """Measure a published version, read back from its folder, for the gate.

        Raises:
            AdapterError: It, or the version that it was learned from, is missing or broken.
            GateError: The operator's prompts cannot be used.
        """
        origin = self._store.verify(version).origin
        parent = origin.parent
        if parent != BASE:
            self._store.verify(parent)
        give_back_freed_memory()  # what learning took; the probe needs room of other sizes
        found = probe_policy(
            self._policy,
            self._store.path(version),
            None if parent == BASE else self._store.path(parent),
            self._settings,
            progress,
        )
        return replace(found, evidence=evidence_of(origin.figures))

    def _make_critic(self) -> ValueHead:
        width = self._base.model.get_output_embeddings().weight.shape[1]
        return ValueHead(width, device=self._settings.device)

    def _learned(self) -> dict[str, torch.nn.Parameter]:
        """Return all parameters that an update changes, by name."""
        critic = self._critic.parameters if self._critic else {}
        return {**self._policy.master, **critic}

    def _start_from(self, parent: str, seed: int) -> LearnerState:
        state = LearnerState()
        if parent == BASE:
            self._policy.reset(seed)
        else:
            self._store.verify(parent)
            self._policy.load(self._store.path(parent))
            state = load_state(self._store.path(parent))
        if self._critic:
            self._critic.load(state.critic)
        return state

    def _optimizer(self, state: LearnerState, rate: float) -> torch.optim.Adam:
        groups: list[dict[str, Any]] = [{"params": list(self._policy.master.values())}]
        if self._critic:
            parameters = list(self._critic.parameters.values())
            groups.append(
                {"params": parameters, "lr": self._recipe.critic_rate, "eps": CRITIC_ADAM_EPS}
            )
        optimizer = torch.optim.Adam(groups, lr=rate, eps=self._recipe.adam_eps, fused=True)
        restore_adam(optimizer, self._learned(), state)
        return optimizer

    def _schedule(self, optimizer: torch.optim.Optimizer, state: LearnerState) -> LambdaLR:
        """Schedule the policy's rate by the adapter's age; the critic's rate is constant.

        Practice takes steps of its own; a round takes about as many as 16 votes.
        """
        recipe = self._recipe
        decay = recipe.rate_decay_steps * (1 + recipe.practice_rounds)

        def of_policy(step: int) -> float:
            return share_of_rate(state.step + step, warmup=recipe.rate_warmup_steps, decay=decay)

        return LambdaLR(optimizer, [of_policy, lambda _: 1.0][: len(optimizer.param_groups)])

    def _usable(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
        """Return the votes that can be learned from, and why each other one cannot."""
        limits: dict[str, Any] = {
            "vocabulary": self._base.model.get_input_embeddings().num_embeddings,
            "context": getattr(self._base.model.config, "max_position_embeddings", None),
        }
        reasons = [unusable(sample, **limits) for sample in samples]
        usable = [each for each, reason in zip(samples, reasons, strict=True) if reason is None]
        return usable, [
            f"{sample.completion_id}: {reason}"
            for sample, reason in zip(samples, reasons, strict=True)
            if reason is not None
        ]

    def _recover(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """Return the votes that have log-probs, or whose log-probs can be computed."""
        known = samples
        if without_logprobs(samples):
            known = recover_behaviour(samples, self._policy, self._store)
        if not known:
            raise LearningError(
                "No vote of the batch has log-probs, and the versions that wrote the replies are "
                "gone: discard the votes, or restore the versions' folders from a backup."
            )
        return known

    def _write(self, state: LearnerState, folder: Path) -> None:
        self._policy.save(folder)
        save_state(state, folder)

    def _check_finite(self) -> None:
        if not all(m.isfinite().all() for m in self._learned().values()):
            raise LearningError(
                "The update made weights that are not finite: lower THUMBLOOP_LEARNING_RATE, or "
                "activate an earlier version."
            )

    def _state_after(
        self,
        last: LearnerState,
        optimizer: torch.optim.Adam,
        order: torch.Generator,
        steps: int,
    ) -> LearnerState:
        first, second = adam_moments(optimizer, self._learned())
        critic = self._critic.parameters if self._critic else {}
        return replace(
            last,
            step=last.step + steps,
            first=first,
            second=second,
            random=order.get_state(),
            critic={n: p.detach() for n, p in critic.items()},
        )
