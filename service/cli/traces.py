"""Prints what made a version: the versions it was built on, and the votes of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.types import BASE
from service.cli.output import ago, print_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from feedback.tracing import BatchVote, ChainLink, Texts, VersionOrigin

TextsFlag = Annotated[
    bool, typer.Option("--texts", help="Show what people wrote, too; handle it with care.")
]


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Print what the gate measured, each figure with its bound and the base's own figure."""
    if not checks:
        return
    rows = [
        (c["name"], *map(_number, (c["value"], c["bound"], c.get("base"))), _passed(c), c["reason"])
        for c in checks
    ]
    print_table(("gate", "found", "bound", "base", "passed", "what the check is for"), rows, "")
    say()


def print_samples(samples: Sequence[Mapping[str, Any]]) -> None:
    """Print the beginnings of a few replies to the gate's own questions."""
    if not samples:
        return
    say("What it replies to questions of the gate:")
    for sample in samples:
        say(f"  question: {sample['prompt']!r}")
        say(f"  reply: {sample['text']!r}")
    say()


def print_made(made: VersionOrigin) -> None:
    """Print a version's chain, youngest first, and the votes that its own run learned."""
    if made.version == BASE:
        say("The base is the model as it was published, so no vote had a part in it.")
        return
    columns = ("version", "state", "made by", "votes", "up", "down", "age", "last by")
    print_table(
        columns, [_step(each) for each in made.chain], "The record knows nothing of this version."
    )
    if made.chain and not made.whole:
        say(f"The chain goes on: the last of these is built on {made.chain[-1].parent}.")
    say()
    if made.votes:
        run = made.chain[0].run
        stand = sum(vote.stands for vote in made.votes)
        say(f"Run {run} learned these {len(made.votes)} votes, of which {stand} still stand:")
        rows = [(v.completion_id, f"{v.score:+.2f}", v.revision, _stands(v)) for v in made.votes]
        print_table(("reply", "score", "revision", "stands"), rows, "")
        for vote in made.votes:
            print_texts(vote.completion_id, vote.texts)
    else:
        say("This version was imported, so no vote here made it.")


def print_texts(completion_id: str, texts: Texts | None) -> None:
    """Print what people wrote around one vote, if it was asked for and is still there."""
    if texts is None:
        return
    say(f"\n{completion_id}")
    said = {
        "question": texts.question,
        "reply": texts.reply,
        "comment": texts.comment,
        "correction": texts.correction,
    }
    for name, text in said.items():
        if text:
            say(f"  {name}: {text!r}")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _passed(check: Mapping[str, Any]) -> str:
    if check["passed"]:
        return "yes"
    return "no" if check["blocking"] else "no, but only warns"


def _step(step: ChainLink) -> tuple[object, ...]:
    roles = [role for role in step.roles if role != step.state]
    return (
        step.version,
        ", ".join([step.state.replace("_", " "), *roles]),
        "import" if step.run is None else f"run {step.run}",
        step.votes,
        step.up,
        step.down,
        ago(step.created_at),
        step.changed_by,
    )


def _stands(vote: BatchVote) -> str:
    return "yes" if vote.stands else "no"
