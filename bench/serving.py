"""Measures serving over HTTP: our server with an adapter live, or any OpenAI-compatible one.

    python -m bench.serving                # ours: 1, 4, 16 and 32 streams
    python -m bench.serving --url http://127.0.0.1:8001 --model base
    python -m bench.serving first-token    # and burst, mixed, learning, disconnect

Each stream asks again as soon as it has been answered. Ours is started on a throwaway data folder;
`--set NAME=VALUE` gives it settings by their names without prefix.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from bench.support.machine import describe, write_results
from bench.support.processes import end_in_order, in_session
from bench.support.serving import burst, disconnect, first_token, mixed, while_learning
from bench.support.serving.options import add_load_options, parsed, reported, show
from bench.support.targets import Target, own_server

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ("throughput", "first-token", "burst", "mixed", "learning", "disconnect")
ANY_SERVER = ("throughput", "first-token")


def throughput(target: Target, options: argparse.Namespace, seed: int = 0) -> list[dict[str, Any]]:
    """Measure each number of streams; print a line for each."""
    rows = []
    for streams in options.streams:
        row = target.measure(target.load(options, streams, seed=seed))
        rows.append({"streams": streams, **row})
        show(target.name, rows[-1])
    return rows


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
