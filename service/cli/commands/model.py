"""``thumbloop models``: the base model."""

from __future__ import annotations

import typer
from rich.console import Console

from models.settings import ModelSettings
from service.cli.output import JsonFlag, print_fields, print_json, say

app = typer.Typer(no_args_is_help=True, help="The base model.")


@app.command("import")
def import_base(*, as_json: JsonFlag = False) -> None:
    """Import the base model once, so that everything starts without delay."""
    console = Console(stderr=True)
    console.print("Importing the base model")
    # Importing torch takes seconds: tell people first.
    from models.base.loading import ensure_base  # noqa: PLC0415

    with console.status("Importing the base model") as status:

        def progress(doing: str) -> None:
            status.update(f"Base model: {doing}")
            if not console.is_terminal:
                console.print(doing)

        place = ensure_base(ModelSettings(), progress)
    if as_json:
        print_json({"base_model": ModelSettings().base_model, "source": place})
    else:
        say(f"The base model is at {place}")


@app.command("list")
def list_base(*, as_json: JsonFlag = False) -> None:
    """Show the base model and whether it is ready to load."""
    from models.base.loading import imported_folder, is_ready  # noqa: PLC0415 - torch takes seconds

    settings = ModelSettings()
    fields = {
        "base_model": settings.base_model,
        "ready": is_ready(settings),
        "folder": str(imported_folder(settings)),
        "device": settings.device,
        "dtype": settings.dtype,
    }
    if as_json:
        print_json([fields])
    else:
        print_fields(fields)
