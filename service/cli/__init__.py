"""The operator's command line, ``thumbloop``."""

from __future__ import annotations

import typer

from service.cli.commands import (
    canary,
    doctor,
    explain,
    feedback,
    keys,
    learning,
    model,
    parts,
    rollout,
    transfers,
    updates,
    users,
    versions,
)
from service.cli.commands.simulate import simulate
from service.cli.environment import check_environment
from service.cli.errors import Commands

app = typer.Typer(
    name="thumbloop",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="A chatbot backend that learns from the people who use it.",
)


@app.callback()
def root() -> None:
    """Check the settings before any command."""
    check_environment()


app.command()(parts.up)
app.command()(parts.api)
app.command()(parts.worker)
app.command()(parts.beat)
app.command()(simulate)
app.command()(doctor.doctor)
app.command()(explain.explain)
app.add_typer(model.app, name="models")
versions.app.command("import")(transfers.import_)
versions.app.command("export")(transfers.export)
app.add_typer(versions.app, name="versions")
app.add_typer(canary.app, name="canary")
app.add_typer(rollout.app, name="rollout")
app.add_typer(updates.app, name="updates")
app.add_typer(learning.app, name="learning")
app.add_typer(feedback.app, name="feedback")
app.add_typer(keys.app, name="keys")
app.add_typer(users.app, name="users")


def main() -> None:
    """Run ``thumbloop``."""
    app()
