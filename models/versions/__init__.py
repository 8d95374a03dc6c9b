"""Pure rules of versions: their ids, their states, and what each command makes of the rollout.

``plan`` takes what the record says and a command, and returns every write that the command means,
or refuses with the reason. Nothing here knows Redis, a clock or a file.
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
