"""Measures all figures of a candidate for the gate, in numbered steps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.errors import EngineError
from models.gate import GateFigures, OperatorFigure, SampleReply
from models.gate.operator import read_operator_prompts
from models.probes.behaviour import behaviour
from models.probes.known_base import KnownBase, known_base
from models.probes.questions import questions
from models.probes.replies import draw_replies
from models.probes.scoring import drawn_sample, kl_per_reply
from models.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.gate.operator import OperatorPrompt
    from models.policy.policy import Policy
    from models.probes.questions import ProbeQuestion
    from models.probes.replies import DrawnReply
    from models.probes.scoring import Logprobs
    from models.settings import LearnerSettings

SAMPLES = 4
"""The number of replies that are kept to show to people."""
SAMPLE_CHARACTERS = 300
_STEPS = 4


def probe_policy(
    policy: Policy,
    folder: Path,
    parent: Path | None,
    settings: LearnerSettings,
    progress: Callable[[Progress], None],
) -> GateFigures:
    """Ask a version the gate's questions, decoded as for users, and measure its replies.

    Args:
        policy: The policy, which has the version's weights afterwards.
        folder: The version's folder, whose hashes the caller has verified.
        parent: The folder of the parent version; None for the base.
        settings: The settings of decoding, of measuring, and of the operator's prompts.
        progress: Called after each step.

    Raises:
        GateError: The operator's prompts are invalid.
        AdapterError: An adapter does not fit the policy.
        EngineError: The base cannot be decoded.
    """
    # 1. Check that all weights are finite.
    policy.load(folder)
    if not all(bool(m.isfinite().all()) for m in policy.master.values()):
        return GateFigures(finite=False, could_not="weights that are not finite are not tried out")
    # 2. Read the questions and prompts, and the base's figures on them.
    asked, operator = questions(), read_operator_prompts(_operator_folder(settings))
    base = known_base(
        policy.base, operator, settings, lambda: _measure_base(policy, asked, operator, settings)
    )
    progress(Progress("probe", 1, _STEPS))
    # 3. Draw the candidate's replies.
    try:
        replies = draw_replies(policy.base, folder, asked, operator, settings)
    except EngineError as error:
        return GateFigures(finite=True, could_not=f"it cannot be decoded: {error}")
    progress(Progress("probe", 2, _STEPS))
    # 4. Measure the KL of these replies to the base and to the parent version.
    everyday = [drawn_sample(r.prompt_ids, r.tokens) for r in replies if r.about == "everyday"]
    kl_to_base = kl_to_parent = kl_per_reply(everyday, _reference_logprobs(policy))
    if parent is not None:
        policy.load(parent)
        kl_to_parent = kl_per_reply(everyday, policy.reply_logprobs)
        policy.load(folder)
    progress(Progress("probe", 3, _STEPS))
    # 5. Measure the replies, and the candidate's preferences between given replies.
    candidate = behaviour(policy.base, asked, replies, policy.reply_logprobs)
    progress(Progress("probe", 4, _STEPS))
    return GateFigures(
        finite=True,
        kl_per_reply=kl_to_base,
        kl_to_parent=kl_to_parent,
        candidate=candidate,
        base=base.behaviour,
        operator=_operator_figures(operator, replies, base),
        samples=_sample_replies(replies),
    )


def _reference_logprobs(policy: Policy) -> Logprobs:
    return partial(policy.reply_logprobs, reference=True)


def _operator_folder(settings: LearnerSettings) -> Path:
    return settings.gate_prompts or settings.data_dir / "gate"


def _measure_base(
    policy: Policy,
    asked: Sequence[ProbeQuestion],
    operator: Sequence[OperatorPrompt],
    settings: LearnerSettings,
) -> KnownBase:
    replies = draw_replies(policy.base, None, asked, operator, settings)
    found = behaviour(policy.base, asked, replies, _reference_logprobs(policy))
    broken = tuple(len(p.broken(r.text)) for p, r in _operator_replies(operator, replies))
    return KnownBase(found, broken)


def _operator_replies(
    operator: Sequence[OperatorPrompt], replies: Sequence[DrawnReply]
) -> list[tuple[OperatorPrompt, DrawnReply]]:
    """Pair the operator's prompts with their replies, which are the last of ``replies``."""
    return list(zip(operator, replies[len(replies) - len(operator) :], strict=True))


def _operator_figures(
    operator: Sequence[OperatorPrompt], replies: Sequence[DrawnReply], base: KnownBase
) -> tuple[OperatorFigure, ...]:
    return tuple(
        OperatorFigure(
            where=prompt.where,
            reply=reply.text[:SAMPLE_CHARACTERS],
            broken=prompt.broken(reply.text),
            base_breaks=breaks,
        )
        for (prompt, reply), breaks in zip(
            _operator_replies(operator, replies), base.operator_breaks, strict=True
        )
    )


def _sample_replies(replies: Sequence[DrawnReply]) -> tuple[SampleReply, ...]:
    """Return a few replies, spread evenly over the everyday questions."""
    everyday = [reply for reply in replies if reply.about == "everyday"]
    step = max(1, len(everyday) // SAMPLES)
    return tuple(
        SampleReply(reply.prompt, reply.text[:SAMPLE_CHARACTERS])
        for reply in everyday[::step][:SAMPLES]
    )
