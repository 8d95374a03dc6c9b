"""Measures serving over HTTP: our server with an adapter live, or any OpenAI-compatible one.

    python bench/serving.py                # ours: 1, 4, 16 and 32 streams
    python bench/serving.py --url http://127.0.0.1:8001 --model base
    python bench/serving.py first-token    # and burst, mixed, learning, disconnect

Each stream asks again as soon as it has been answered. Ours is started on a throwaway data folder;
`--set NAME=VALUE` gives it settings by their names without prefix.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import burst
import disconnect
import first_token
import mixed
import while_learning
from machine import describe, write_results
from processes import end_in_order, in_session
from questions import GIVEN, chosen_file
from targets import Target, own_server

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ("throughput", "first-token", "burst", "mixed", "learning", "disconnect")
ANY_SERVER = ("throughput", "first-token")
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


def throughput(target: Target, options: argparse.Namespace, seed: int = 0) -> list[dict[str, Any]]:
    """Measure each number of streams; print a line for each."""
    rows = []
    for streams in options.streams:
        row = target.measure(target.load(options, streams, seed=seed))
        rows.append({"streams": streams, **row})
        show(target.name, rows[-1])
    return rows


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


@contextlib.contextmanager
def chosen_target(options: argparse.Namespace) -> Iterator[Target]:
    """Give the server that the options name, or run ours."""
    if options.url:
        extra = {} if options.may_end else {"ignore_eos": True}
        pids = (lambda: in_session(options.session)) if options.session else list
        yield Target(options.url, options.url, options.model, extra, pids)
        return
    with own_server(options.settings) as own:
        yield own.target


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the chosen mode; return its figures."""
    if options.mode == "throughput":
        with chosen_target(options) as target:
            return {"server": target.name, "rows": throughput(target, options)}
    if options.mode == "first-token":
        with chosen_target(options) as target:
            return {"server": target.name, **first_token.measure(target, options)}
    with own_server(options.settings, adapters=2) as own:
        if options.mode == "mixed":
            return mixed.measure(own, options)
        if options.mode == "learning":
            return while_learning.measure(own, options)
        alone = {"burst": burst.measure, "disconnect": disconnect.measure}
        return alone[options.mode](own.target, options)


def main() -> int:
    """Run the bench."""
    end_in_order()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", nargs="?", choices=MODES, default="throughput")
    parser.add_argument("--url", help="a running server instead of ours")
    parser.add_argument("--model", default="policy", help="its model")
    parser.add_argument("--may-end", action="store_true", help="send no `ignore_eos` to it")
    parser.add_argument("--session", type=int, help="its session's id, to watch its memory")
    parser.add_argument("--pairs", type=int, default=10, help="of first-token")
    parser.add_argument("--requests", type=int, default=320, help="of burst, all at once")
    add_load_options(parser)
    options = parsed(parser)
    if options.url and options.mode not in ANY_SERVER:
        parser.error(f"{options.mode} looks into the server: it goes with ours only.")
    figures = measure(options)
    name = "serving-" + ("url" if options.url else options.mode)
    write_results(name, {"machine": describe(), "options": reported(options), **figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
