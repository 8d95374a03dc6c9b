"""DELETE /admin/users/{user}: everything of one user, for good."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from service.routes.dependencies import CallerDep, RuntimeDep

router = APIRouter(prefix="/admin/users")

OwnerQuery = Annotated[
    str | None,
    Query(description="Public id of the user's API key, or `open`; needed once there are keys."),
]
DryRunQuery = Annotated[bool, Query(description="Say what would be deleted, and delete nothing.")]


@router.delete("/{user:path}")
async def delete_user(
    user: str,
    runtime: RuntimeDep,
    caller: CallerDep,
    owner: OwnerQuery = None,
    dry_run: DryRunQuery = False,
) -> dict[str, Any]:
    """Delete a user's completions and votes, and say which versions learned from them.

    When Redis goes away midway the answer is a 503, and the same request again goes on.
    """
    users = runtime.store.users
    person = await users.person(user, owner)
    if dry_run:
        return {**asdict(await users.find(person)), "dry_run": True}
    return asdict(await users.delete(person, who=caller.owner))
