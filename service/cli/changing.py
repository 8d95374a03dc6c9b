"""The steps of each command that changes the rollout: plan, ask, check, do, wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from feedback.types import Audit
from models.adapters import AdapterStore
from models.settings import ModelSettings
from service.cli.asking import ask
from service.cli.output import print_json, say
from service.cli.record import operator, with_store
from service.operating.changes import carry_out, described, pinned
from service.operating.convergence import converged

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import Rollout
    from models.versions import Transition
    from service.operating.changes import Asked
    from service.operating.convergence import Convergence

VersionArgument = Annotated[
    str, typer.Argument(help="A version's id, such as v000012-3fa9c1d2e4b7, or `base`.")
]
WhyOption = Annotated[str, typer.Option(help="The reason, for the audit trail.")]
WaitOption = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Wait at most this long for all replicas to serve the change; the exit code is 0 only "
        "if they do.",
    ),
]
ExpectedLiveOption = Annotated[
    str | None, typer.Option(help="Refuse unless this version is live now.")
]


def change(
    asked: Asked,
    *,
    why: str,
    wait: float,
    as_json: bool,
    question: str = "",
    yes: bool = True,
    dry_run: bool = False,
) -> None:
    """Carry out a change of the rollout and print the result.

    Args:
        asked: What is wanted.
        why: The reason.
        wait: Seconds to wait for the replicas; 0 for not at all.
        as_json: Whether to print JSON.
        question: What to ask before; the consequences are added to it.
        yes: Whether that is agreed to already.
        dry_run: Whether to print the plan only.

    Raises:
        typer.Exit: Not all replicas serve it.
    """
    who = operator()
    plan, before = with_store(lambda store: _plan(store, asked, who))
    if dry_run:
        _print_plan(plan, before, as_json=as_json)
        return
    if question:
        ask(" ".join([*_consequences(plan, before), question]), yes=yes)
    asked = pinned(asked, plan)
    after, found = with_store(lambda store: _do(store, asked, who, why, wait))
    if as_json:
        print_json(asdict(after) | ({"settled": asdict(found)} if found else {}))
    else:
        say(_said(after))
        if found:
            say(_settled_in_words(found))
    if found and not (found.all and found.replicas):
        raise typer.Exit(1)


async def _plan(store: Store, asked: Asked, who: str) -> tuple[Transition | None, Rollout]:
    plan = await store.rollout.preview(asked, who=who, now=time.time())
    return plan, await store.rollout.get()


async def _do(
    store: Store, asked: Asked, who: str, why: str, wait: float
) -> tuple[Rollout, Convergence | None]:
    after = await carry_out(store, asked, Audit(who, why, time.time()), check=_check_files)
    return after, await converged(store, after.generation, wait) if wait else None


async def _check_files(version: str) -> None:
    await asyncio.to_thread(AdapterStore.open(ModelSettings()).verify, version)


def _print_plan(plan: Transition | None, before: Rollout, *, as_json: bool) -> None:
    if as_json:
        print_json(described(plan, before))
    elif plan is None:
        say("Nothing would change.")
    else:
        say(" ".join(_consequences(plan, before)))


def _consequences(plan: Transition | None, before: Rollout) -> list[str]:
    """Return what a change would do to versions, votes and learning, one sentence each."""
    if plan is None:
        return []
    live = plan.rollout.live
    sentences = [f"{live} would be live."] if live != before.live else []
    sentences += [
        f"{each.version} would be {_words(each.new)}."
        for each in plan.moves
        if each.version != live
    ]
    runs = sum(each.returns is not None for each in plan.moves)
    if runs:
        sentences.append(
            f"The votes of {runs} update run{'s' if runs > 1 else ''} would wait again."
        )
    if plan.pause:
        sentences.append("Learning would be paused.")
    return sentences


def _said(rollout: Rollout) -> str:
    canary = (
        f", {rollout.canary} the canary for {100 * rollout.fraction:.3g} % of the users"
        if rollout.canary
        else ""
    )
    return f"{rollout.live} is live{canary} (generation {rollout.generation})."


def _settled_in_words(found: Convergence) -> str:
    if found.problem:
        return found.problem
    if not found.replicas:
        return "No replica reports to this Redis, so nothing is served."
    have = found.replicas - len(found.missing)
    lines = [f"{have} of {found.replicas} replicas serve the change after {found.seconds:.1f} s."]
    lines += [f"{each.id} serves {each.serving}: {each.problem}" for each in found.missing]
    return "\n".join(lines)


def _words(state: str) -> str:
    return state.replace("_", " ")
