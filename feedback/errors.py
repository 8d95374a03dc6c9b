"""Errors of the feedback folder.

FeedbackError
├── InvalidVoteError          the vote itself makes no sense
│   └── DifferentPromptsError a comparison of replies to different prompts
├── UnknownCompletionError    no such completion, or it is someone else's
├── UnknownUserError          nothing is recorded of this user
├── OwnerNeededError          several API keys may have a user of this name
├── UnknownVersionError       no such version
├── UnknownRunError           no such update run
├── RolloutConflictError      the rollout is not as the caller expected
├── FencedError               another learner has taken over this run
├── TransferError             the file of an export or an import cannot be used
└── StoreUnavailableError     Redis is away, or cannot keep the write
"""

from __future__ import annotations


class FeedbackError(Exception):
    """Base of all errors here; the message tells the reader what to do."""


class InvalidVoteError(FeedbackError):
    """The vote itself makes no sense."""


class DifferentPromptsError(InvalidVoteError):
    """A comparison of two replies that do not answer the same prompt."""


class UnknownCompletionError(FeedbackError):
    """No such completion, or it belongs to someone else."""


class UnknownUserError(FeedbackError):
    """Nothing is recorded of this user."""


class OwnerNeededError(FeedbackError):
    """Users of one name under two API keys are two people: it must be said whose is meant."""


class UnknownVersionError(FeedbackError):
    """No such policy version."""


class UnknownRunError(FeedbackError):
    """No such update run."""


class RolloutConflictError(FeedbackError):
    """The rollout, or the version's state, is not as the caller expected."""


class FencedError(FeedbackError):
    """Another learner has taken over this run: write nothing, stop."""


class TransferError(FeedbackError):
    """The file of an export or an import cannot be used."""


class StoreUnavailableError(FeedbackError):
    """Redis is away or refused the write; nothing was confirmed."""
