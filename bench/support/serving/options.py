"""The options of every serving bench, and what it prints for a measurement."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.support.questions import GIVEN, chosen_file

if TYPE_CHECKING:
    import argparse

STREAMS = (1, 4, 16, 32)


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add what describes the load; `questions` is made of `prompts` by ``parsed``."""
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--seconds", type=float, default=20.0, help="the window that counts")
    parser.add_argument("--warmup", type=float, default=4.0, help="seconds of load before it")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of a reply")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--prompts", type=Path, default=GIVEN, help="JSON lines with a `prompt`")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting of our server, for example engine_threads=1; may be repeated",
    )


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options, with the settings as a mapping and the file to ask from."""
    options = parser.parse_args()
    options.settings = dict(setting.split("=", 1) for setting in options.settings)
    options.questions = chosen_file(options.prompts)
    return options


def reported(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options as a result may show them: without paths of this machine."""
    shown = {k: v for k, v in vars(options).items() if k not in {"prompts", "questions"}}
    return shown | {"prompts": options.prompts.name if options.questions else "the product's own"}


def show(name: str, row: dict[str, Any]) -> None:
    """Print one measurement."""
    first, between = row["first_token_ms"] or {}, row["inter_token_ms"] or {}
    cells = (
        f"{name:<18}{row['streams']:>3} streams {row['tokens_per_second']:>8} tokens/s",
        f"first token {first.get('p50', '-')} / {first.get('p99', '-')} ms",
        f"between {between.get('p50', '-')} / {between.get('p99', '-')} ms",
        f"{row['memory_mib']} MiB, {row['errors']} errors",
    )
    sys.stderr.write("   ".join(cells) + "\n")
