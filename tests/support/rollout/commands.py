"""Random commands on the rollout, and who gives them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from models.versions import (
    Activate,
    Confirm,
    Kill,
    PromoteCanary,
    RecordGateVerdict,
    RejectCanary,
    Rollback,
    StartCanary,
    StopCanary,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.versions import Command

WHO = st.sampled_from(["learner", "judge", "op"])
UNKNOWN = "v999999-0123456789ab"


def commands(versions: Sequence[str]) -> st.SearchStrategy[Command]:
    """Any command about these versions, ``base``, or one that there is not."""
    return _commands(tuple(versions))


@cache  # to make a strategy takes longer than to draw from it
def _commands(versions: tuple[str, ...]) -> st.SearchStrategy[Command]:
    name = st.sampled_from([*versions, "base", UNKNOWN] if versions else ["base", UNKNOWN])
    maybe = st.none() | name
    seldom = st.one_of(st.none(), st.none(), st.none(), name)
    return st.one_of(
        st.builds(Activate, name, seldom, st.sampled_from([None, None, "approved"])),
        st.builds(Activate, name),
        st.builds(Rollback, maybe, seldom),
        st.builds(Rollback),
        st.builds(StartCanary, name, st.sampled_from([0.1, 0.5, 1.0]), seldom),
        st.builds(StartCanary, name, st.sampled_from([0.1, 0.0, -1.0, 1.1, float("nan")])),
        st.builds(StopCanary, seldom),
        st.builds(PromoteCanary, name),
        st.builds(RejectCanary, name),
        st.builds(Confirm, name, seldom),
        st.builds(Kill),
        st.builds(RecordGateVerdict, name, st.sampled_from(["approved", "approved", "rejected"])),
    )
