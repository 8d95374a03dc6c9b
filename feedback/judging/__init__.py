"""The judge's reasoning, pure: what is counted, how strong the evidence is, and the verdict.

``judge`` compares the tallies of two sides, and says whether the newer one is to be promoted,
rolled back, or watched on. It may be asked after every vote.
"""

from feedback.judging.bounds import JudgeBounds
from feedback.judging.tally import (
    FIRST_TOKEN_EDGES,
    Approval,
    Replies,
    VersionComparison,
    VersionTally,
    first_token_bucket,
    pool,
)
from feedback.judging.verdict import JudgeVerdict, State, judge

__all__ = [
    "FIRST_TOKEN_EDGES",
    "Approval",
    "JudgeBounds",
    "JudgeVerdict",
    "Replies",
    "State",
    "VersionComparison",
    "VersionTally",
    "first_token_bucket",
    "judge",
    "pool",
]
