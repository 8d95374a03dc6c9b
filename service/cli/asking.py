"""Asks the operator before a command deletes or takes back; refuses without a terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from service.cli.errors import CommandError

YesFlag = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would change, and change nothing.")
]


def ask(question: str, *, yes: bool) -> None:
    """Return once the operator has agreed.

    Args:
        question: What is about to happen; it ends in a question mark.
        yes: Whether the command line agreed already.

    Raises:
        CommandError: Nobody can be asked here.
        typer.Abort: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            f"{question} There is no terminal to ask on: add --yes to agree, or --dry-run to see "
            "what would change."
        )
    typer.confirm(question, abort=True, err=True)
