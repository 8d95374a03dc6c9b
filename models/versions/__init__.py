"""Versions of the policy and the rollout: ids, states, commands, and the rules between them.

``plan`` takes a snapshot of the record and a command. It returns every write of the command, or
refuses with the reason. All functions are pure: no Redis, no clock, no files.
"""

from models.versions.commands import (
    Activate,
    Command,
    Confirm,
    Kill,
    PromoteCanary,
    RecordGateVerdict,
    RejectCanary,
    Rollback,
    StartCanary,
    StopCanary,
)
from models.versions.ids import is_version_id, make_id, sequence_of
from models.versions.planning import plan
from models.versions.rollout import Rollout, Snapshot, StateChange, Transition, VersionFacts
from models.versions.states import (
    LEARNER,
    STATES,
    VersionState,
    may_be_canary,
    may_go_live,
    may_move,
)

__all__ = [
    "LEARNER",
    "STATES",
    "Activate",
    "Command",
    "Confirm",
    "Kill",
    "PromoteCanary",
    "RecordGateVerdict",
    "RejectCanary",
    "Rollback",
    "Rollout",
    "Snapshot",
    "StartCanary",
    "StateChange",
    "StopCanary",
    "Transition",
    "VersionFacts",
    "VersionState",
    "is_version_id",
    "make_id",
    "may_be_canary",
    "may_go_live",
    "may_move",
    "plan",
    "sequence_of",
]
