"""Pure step from frozen votes and their completions to what the learner takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.types import Completion, FrozenVote, Person


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of a run, and the votes that could not become one.

    Attributes:
        missing: Votes whose completion has expired or was deleted.
        mismatched: Votes whose completion has no tokens, or another number of log-probs.
    """

    samples: tuple[Sample, ...]
    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()


def make_batch(
    votes: Sequence[FrozenVote],
    completions: Sequence[Completion | None],
    corrections: Sequence[str | None] | None = None,
) -> Batch:
    """Pair each vote with its completion, in the order of the votes.

    Args:
        votes: The votes.
        completions: Theirs; None for what is gone.
        corrections: What people wrote as the better reply, by vote; None where they wrote none.
    """
    samples: list[Sample] = []
    missing: list[str] = []
    mismatched: list[str] = []
    said = [None] * len(votes) if corrections is None else corrections
    for vote, completion, correction in zip(votes, completions, said, strict=True):
        if completion is None:
            missing.append(vote.completion_id)
        elif not _lengths_match(completion):
            mismatched.append(vote.completion_id)
        else:
            samples.append(_sample(vote, completion, correction or ""))
    return Batch(tuple(samples), tuple(missing), tuple(mismatched))


def _lengths_match(completion: Completion) -> bool:
    tokens, logprobs = len(completion.response_ids), len(_of_policy(completion))
    return tokens > 0 and logprobs in {tokens, 0}  # with none, the learner computes them


def _pseudonym(person: Person) -> str:
    """Return a lasting name that does not reveal the user: each adapter's folder has it."""
    return hashlib.sha256(person.name.encode()).hexdigest()[:16]


def _of_policy(completion: Completion) -> tuple[float, ...]:
    """Return the log-probs under the policy that wrote the reply; none where no record has them.

    A reply that was drawn from a part of the distribution, or from a changed one, would else seem
    to be of another policy.
    """
    sampling = completion.sampling
    if completion.policy_logprobs or sampling.truncates or sampling.adjusts:
        return completion.policy_logprobs
    return completion.behaviour_logprobs


def _sample(vote: FrozenVote, completion: Completion, correction: str) -> Sample:
    return Sample(
        completion_id=completion.id,
        user=_pseudonym(completion.person),
        prompt_ids=completion.prompt_ids,
        response_ids=completion.response_ids,
        behaviour_logprobs=_of_policy(completion),
        temperature=completion.sampling.temperature,
        reward=vote.score,
        version=completion.version,
        ended=completion.finish_reason == "stop",
        correction=correction,
        forced=completion.forced,
    )
