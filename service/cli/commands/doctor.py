"""``thumbloop doctor``: says what is wrong and how to mend it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from service.cli.output import JsonFlag, print_json, visible
from service.operating.checks.system import examine
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from service.operating.checks.findings import Finding


def doctor(*, as_json: JsonFlag = False) -> None:
    """Check this installation; exit code 0 only if all is well."""
    findings = asyncio.run(_collect(show=not as_json))
    if as_json:
        print_json(findings)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


async def _collect(*, show: bool) -> list[Finding]:
    findings = []
    async for finding in examine(ServiceSettings()):
        findings.append(finding)
        if show:
            _print(finding)
    return findings


def _print(finding: Finding) -> None:
    console = Console(highlight=False)
    mark, style = ("ok", "green") if finding.ok else ("wrong", "red")
    line = visible(f"{mark:<6} {finding.check:<17} {finding.found}")
    console.print(line, style=style, markup=False, soft_wrap=True)
    if finding.mend:
        console.print(visible(f"{'':<24} {finding.mend}"), markup=False, soft_wrap=True)
