"""What a command does with an error that the reader can mend: one line, exit code 1."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from feedback.errors import FeedbackError
from models.errors import ModelsError
from service.cli.output import visible
from service.errors import ServiceError

MENDABLE = (FeedbackError, ModelsError, ServiceError)


class CommandError(ServiceError):
    """A command cannot do what was asked; the message tells what to do."""


class Commands(TyperGroup):
    """The command line's root; it prints mendable errors without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except MENDABLE as error:
            print_error(str(error))
            raise typer.Exit(1) from error


def print_error(message: str) -> None:
    """Print one line to standard error."""
    console = Console(stderr=True)
    console.print(f"thumbloop: {visible(str(message))}", style="red", markup=False, soft_wrap=True)
