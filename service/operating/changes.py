"""Changes of the rollout that operators ask for: planned, checked, then carried out.

The HTTP routes and the command line check in different ways that a version can be served. The rest
is here.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from models.versions import Activate, Confirm, Kill, Rollback, StartCanary, StopCanary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store
    from feedback.types import Audit, Rollout
    from models.versions import Transition

Asked = Activate | Rollback | StartCanary | StopCanary | Confirm | Kill
"""What an operator can ask for; promoting and rejecting a canary is the judge's."""


async def carry_out(
    store: Store, asked: Asked, audit: Audit, *, check: Callable[[str], Awaitable[None]]
) -> Rollout:
    """Do what is asked, once every version that users would newly get is known to be whole.

    Args:
        store: The record.
        asked: What is wanted.
        audit: Who wants it, why and when.
        check: Called with each such version; it raises where that cannot be served.

    Raises:
        UnknownVersionError: There is no such version.
        RolloutConflictError: The rules do not allow it, or something has moved meanwhile.
        StoreUnavailableError: Redis is away.
    """
    change = await store.rollout.preview(asked, who=audit.who, now=audit.now)
    for version in newly_served(change):
        await check(version)
    return await store.rollout.do(pinned(asked, change), audit)


def newly_served(change: Transition | None) -> tuple[str, ...]:
    """Return the versions that users get by a change and did not before."""
    moves = change.moves if change else ()
    return tuple(move.version for move in moves if move.new in {"live", "canary"})


def pinned(asked: Asked, change: Transition | None) -> Asked:
    """Let a command be about what its preview was about, however the rollout moves meanwhile."""
    if change is None:
        return asked
    if isinstance(asked, Rollback):
        return replace(asked, to=change.rollout.live, expected_live=change.old)
    if isinstance(asked, StopCanary):
        return replace(asked, expected=change.old)
    return asked


def described(change: Transition | None, rollout: Rollout) -> dict[str, Any]:
    """Return what a change would do, as a dry run answers it.

    Args:
        change: The plan; None where nothing would change.
        rollout: What is served now.
    """
    after = change.rollout if change else rollout
    moves = change.moves if change else ()
    return {
        "dry_run": True,
        "action": change.action if change else None,
        "rollout": asdict(after),
        "moves": [{"version": each.version, "old": each.old, "new": each.new} for each in moves],
        "runs_given_back": [each.returns for each in moves if each.returns is not None],
        "pauses_learning": change.pause if change else False,
    }
