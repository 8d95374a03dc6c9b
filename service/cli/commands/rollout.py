"""``thumbloop rollout``: which versions serve, on which replicas, and the kill switch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from models.types import BASE
from models.versions import Kill
from service.cli.asking import DryRunFlag, YesFlag  # noqa: TC001 - typer reads them at run time
from service.cli.changing import WaitOption, WhyOption, change
from service.cli.output import JsonFlag, ago, print_json, print_table, say
from service.cli.record import with_store
from service.cli.verdicts import print_judgement

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import Judgement, Replica, Rollout

app = typer.Typer(no_args_is_help=True, help="What is served, and by which replicas.")


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """How the rollout stands."""

    rollout: Rollout
    paused: bool
    judgement: Judgement | None
    replicas: list[Replica]


@app.command()
def show(*, as_json: JsonFlag = False) -> None:
    """Show what is live, confirmed and tried, what the judge found, and what each replica serves.

    The exit code is 1 if a replica does not serve what it should.
    """
    status = with_store(_read)
    rollout = status.rollout
    if as_json:
        print_json(_as_dict(status))
    else:
        _print(status)
    if any(each.generation < rollout.generation for each in status.replicas):
        raise typer.Exit(1)


@app.command()
def kill(
    why: WhyOption = "by hand",
    wait: WaitOption = 0.0,
    *,
    yes: YesFlag = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve the base to everyone, end the canary and pause learning, all at once."""
    change(
        Kill(),
        why=why,
        wait=wait,
        question="Serve the base to everyone?",
        yes=yes,
        dry_run=dry_run,
        as_json=as_json,
    )


async def _read(store: Store) -> RolloutStatus:
    return RolloutStatus(
        rollout=await store.rollout.get(),
        paused=await store.learning.paused(),
        judgement=await store.judging.last(),
        replicas=await store.replicas.list(),
    )


def _as_dict(status: RolloutStatus) -> dict[str, Any]:
    judgement = status.judgement
    return {
        **asdict(status.rollout),
        "paused": status.paused,
        "judgement": asdict(judgement) if judgement else None,
        "replicas": [asdict(each) for each in status.replicas],
    }


def _print(status: RolloutStatus) -> None:
    rollout = status.rollout
    say(f"live       {rollout.live}{_since(rollout.live_since)}")
    say(f"confirmed  {rollout.confirmed or BASE}{_since(rollout.confirmed_since)}")
    if rollout.canary:
        share = f"{100 * rollout.fraction:.3g} % of the users"
        say(f"canary     {rollout.canary}, {share}{_since(rollout.canary_since)}")
    else:
        say("canary     none")
    say(f"previous   {rollout.previous or 'none'}: where a rollback goes")
    say(f"learning   {'paused' if status.paused else 'on'}")
    print_judgement(status.judgement)
    say()
    rows = [_cells(each, rollout.generation) for each in status.replicas]
    columns = ("replica", "address", "serves", "canary", "up to date", "last seen", "problem")
    print_table(columns, rows, "No replica reports to this Redis.")


def _cells(replica: Replica, generation: int) -> tuple[object, ...]:
    whole = "yes" if replica.generation >= generation else "no"
    return (
        replica.id,
        replica.url or None,
        replica.serving,
        replica.canary,
        whole,
        ago(replica.seen_at),
        replica.problem,
    )


def _since(then: float | None) -> str:
    return f" ({ago(then)})" if then else ""
