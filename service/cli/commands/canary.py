"""``thumbloop canary``: a version that a share of the users tries."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.versions import StartCanary, StopCanary
from service.cli.asking import DryRunFlag, YesFlag  # noqa: TC001 - typer reads them at run time
from service.cli.changing import (
    ExpectedLiveOption,
    VersionArgument,
    WaitOption,
    WhyOption,
    change,
)
from service.cli.output import JsonFlag, ago, print_json, say
from service.cli.record import with_store
from service.cli.verdicts import print_judgement

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import Judgement, Rollout

app = typer.Typer(
    no_args_is_help=True, help="The canary: a version that a share of the users tries."
)


@app.command()
def start(
    version: VersionArgument,
    fraction: Annotated[
        float, typer.Option(help="Share of the users, above 0 and at most 1.")
    ] = 0.1,
    expected_live: ExpectedLiveOption = None,
    why: WhyOption = "by hand",
    wait: WaitOption = 0.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Let a version serve a share of the users. Run it again to change the share."""
    asked = StartCanary(version, fraction, expected_live)
    change(asked, why=why, wait=wait, as_json=as_json)


@app.command()
def stop(
    why: WhyOption = "by hand",
    wait: WaitOption = 0.0,
    *,
    yes: YesFlag = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """End the canary without a verdict. The learner does not promote that version afterwards."""
    change(
        StopCanary(),
        why=why,
        wait=wait,
        question="Stop the canary?",
        yes=yes,
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command()
def status(*, as_json: JsonFlag = False) -> None:
    """Show the canary, and what the judge last found."""

    async def read(store: Store) -> tuple[Rollout, Judgement | None]:
        return await store.rollout.get(), await store.judging.last()

    rollout, judgement = with_store(read)
    if as_json:
        print_json(_as_dict(rollout, judgement))
        return
    if rollout.canary is None:
        say(f"There is no canary; {rollout.live} serves everyone.")
    else:
        began = ago(rollout.canary_since) or "at an unknown time"
        say(
            f"{rollout.canary} serves {100 * rollout.fraction:.3g} % of the users, "
            f"{rollout.live} the others; it began {began}."
        )
    print_judgement(judgement)


def _as_dict(rollout: Rollout, judgement: Judgement | None) -> dict[str, Any]:
    return {
        "canary": rollout.canary,
        "fraction": rollout.fraction,
        "canary_since": rollout.canary_since,
        "live": rollout.live,
        "judgement": asdict(judgement) if judgement else None,
    }
