#!/usr/bin/env python3
"""Write docs/reference/commands.md from the command line; ``--check`` compares only."""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from writing import write_or_check

from service.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "thumbloop"
INTRODUCTION = """\
# Commands

```sh
. .venv/bin/activate
thumbloop --help
thumbloop versions rollback --help
```

Commands read the same [settings](settings.md) as the server. An unknown `THUMBLOOP_` variable stops
every command. The exit code is 0 on success, 1 when the command could not do what it was asked, and
2 when the command line itself is wrong.

`make pages` writes this page from the command line; a test holds it current.
"""


def page() -> str:
    """Return the page's text."""
    return INTRODUCTION + "".join(_group(typer.main.get_command(app), PROGRAM))


def _group(group: Any, path: str) -> Iterator[str]:
    commands = {name: each for name, each in group.commands.items() if not each.hidden}
    for name, command in commands.items():
        if isinstance(command, TyperGroup):
            yield f"\n## {path} {name}\n\n{command.help}\n"
            yield from _group(command, f"{path} {name}")
        else:
            yield from _command(command, f"{path} {name}", "##" if path == PROGRAM else "###")


def _command(command: Any, path: str, heading: str) -> Iterator[str]:
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = " ".join([path, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])])
    yield f"\n{heading} {path}\n\n```text\n{usage}\n```\n\n{command.help.strip()}\n"
    if arguments or options:
        yield "\n| parameter | default | meaning |\n|---|---|---|\n"
        yield from (f"| `{_usage(each)}` | | {_cell(each.help)} |\n" for each in arguments)
        yield from (_option(each) for each in options)


def _usage(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    choices = ", ".join(f"`{_text(each)}`" for each in option.type_descriptor.choices or ())
    meaning = _cell(option.help) + (f" One of {choices}." if choices else "")
    return f"| {names} | {_default(option)} | {meaning} |\n"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value.value) if isinstance(value, Enum) else str(value)


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.default is None or option.default == [] or option.default is False:
        return ""
    return "on" if option.default is True else f"`{_text(option.default)}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(write_or_check("commands.md", page()))
