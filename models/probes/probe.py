"""Measures what the gate judges, in numbered steps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.errors import EngineError
from models.gate import GateFigures, OperatorFigure, SampleReply
from models.gate.operator import read_operator_prompts
from models.probes.behaviour import behaviour
from models.probes.known_base import KnownBase, known_base
from models.probes.questions import questions
from models.probes.replies import draw
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

SHOWN = 4
"""Replies that are kept for people to look at."""
SHOWN_CHARACTERS = 300
_STEPS = 4


def probe_policy(
    policy: Policy,
    folder: Path,
    parent: Path | None,
    settings: LearnerSettings,
    progress: Callable[[Progress], None],
) -> GateFigures:
    """Ask a version what the gate asks, as users would get it, and measure the answers.

    Args:
        policy: Has the version's weights afterwards.
        folder: The version's folder, its hashes checked before.
        parent: That of the version that it was learned from; None for the base.
        settings: How to decode and to measure, and where the operator's prompts are.
        progress: Told how far it is.

    Raises:
        GateError: The operator's prompts cannot be used.
        AdapterError: A folder is not one that this policy can have.
        EngineError: Even the base cannot be decoded.
    """
    # 1. What would be served has to be numbers.
    policy.load(folder)
    if not all(bool(m.isfinite().all()) for m in policy.master.values()):
        return GateFigures(finite=False, could_not="weights that are not finite are not tried out")
    # 2. What is asked, and what the base makes of it.
    asked, operator = questions(), read_operator_prompts(_operator_folder(settings))
    base = known_base(
        policy.base, operator, settings, lambda: _measure_base(policy, asked, operator, settings)
    )
    progress(Progress("probe", 1, _STEPS))
    # 3. What the candidate says.
    try:
        replies = draw(policy.base, folder, asked, operator, settings)
    except EngineError as error:
        return GateFigures(finite=True, could_not=f"it cannot be decoded: {error}")
    progress(Progress("probe", 2, _STEPS))
    # 4. How far that is from the base, and from where this update began.
    everyday = [drawn_sample(r.prompt_ids, r.tokens) for r in replies if r.about == "everyday"]
    kl_to_base = kl_to_parent = kl_per_reply(everyday, _by_base(policy))
    if parent is not None:
        policy.load(parent)
        kl_to_parent = kl_per_reply(everyday, policy.reply_logprobs)
        policy.load(folder)
    progress(Progress("probe", 3, _STEPS))
    # 5. What it thinks of replies that it did not write.
    candidate = behaviour(policy.base, asked, replies, policy.reply_logprobs)
    progress(Progress("probe", 4, _STEPS))
    return GateFigures(
        finite=True,
        kl_per_reply=kl_to_base,
        kl_to_parent=kl_to_parent,
        candidate=candidate,
        base=base.behaviour,
        operator=_operator_figures(operator, replies, base),
        samples=_shown(replies),
    )


def _by_base(policy: Policy) -> Logprobs:
    return partial(policy.reply_logprobs, reference=True)


def _operator_folder(settings: LearnerSettings) -> Path:
    return settings.gate_prompts or settings.data_dir / "gate"


def _measure_base(
    policy: Policy,
    asked: Sequence[ProbeQuestion],
    operator: Sequence[OperatorPrompt],
    settings: LearnerSettings,
) -> KnownBase:
    replies = draw(policy.base, None, asked, operator, settings)
    found = behaviour(policy.base, asked, replies, _by_base(policy))
    broken = tuple(len(p.broken(r.text)) for p, r in _answered(operator, replies))
    return KnownBase(found, broken)


def _answered(
    operator: Sequence[OperatorPrompt], replies: Sequence[DrawnReply]
) -> list[tuple[OperatorPrompt, DrawnReply]]:
    """Return the operator's prompts, each with the reply to it; those are the last replies."""
    return list(zip(operator, replies[len(replies) - len(operator) :], strict=True))


def _operator_figures(
    operator: Sequence[OperatorPrompt], replies: Sequence[DrawnReply], base: KnownBase
) -> tuple[OperatorFigure, ...]:
    return tuple(
        OperatorFigure(
            where=prompt.where,
            reply=reply.text[:SHOWN_CHARACTERS],
            broken=prompt.broken(reply.text),
            base_breaks=breaks,
        )
        for (prompt, reply), breaks in zip(
            _answered(operator, replies), base.operator_breaks, strict=True
        )
    )


def _shown(replies: Sequence[DrawnReply]) -> tuple[SampleReply, ...]:
    """Return a few replies from all over the everyday questions."""
    everyday = [reply for reply in replies if reply.about == "everyday"]
    step = max(1, len(everyday) // SHOWN)
    return tuple(
        SampleReply(reply.prompt, reply.text[:SHOWN_CHARACTERS])
        for reply in everyday[::step][:SHOWN]
    )
