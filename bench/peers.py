"""Measures our server and others in turns, on the same machine and model.

    make bench-peers
    python -m bench.peers --peers vllm-adapter --streams 1 32 --rounds 1

All servers are started first. While one is measured the others are stopped (SIGSTOP), so that they
take no processor time; each round measures every server at a number of streams before it goes on
to the next number. vLLM is tuned as its documentation says: threads bound to all cores, its own
OpenMP and tcmalloc preloaded. `transformers serve` decodes with continuous batching and cannot
serve an adapter beside its base, so it serves the base.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from bench.support.machine import describe, write_results
from bench.support.peer_servers import PEERS, Peer, Place, free_port, serving_peer
from bench.support.peer_setup import SetupError
from bench.support.processes import end_in_order, send
from bench.support.serving.options import add_load_options, parsed, reported, show
from bench.support.targets import OURS, Own, Target, own_server
from models.adapters import AdapterStore
from models.base.loading import imported_folder
from models.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTLE_SECONDS = 2.0
WARM_SECONDS = 8.0


def wake(target: Target) -> None:
    """Let a stopped server go on."""
    send(target.pids(), signal.SIGCONT)


@contextlib.contextmanager
def awake(target: Target) -> Iterator[None]:
    """Let a stopped server run for a while."""
    wake(target)
    time.sleep(SETTLE_SECONDS)
    try:
        yield
    finally:
        send(target.pids(), signal.SIGSTOP)


def start_all(
    peers: Sequence[Peer], options: argparse.Namespace, running: contextlib.ExitStack
) -> list[Target]:
    """Start the servers one after the other, warm each one up, and stop it for now.

    Raises:
        SetupError: One of them does not start or serve.
    """
    own = running.enter_context(own_server(options.settings))
    targets = []
    for peer in (None, *peers):
        target = own.target if peer is None else running.enter_context(beside(own, peer, options))
        warm = target.load(options, max(options.streams), seconds=WARM_SECONDS, warmup=0.0)
        if failed := warm.run()["first_error"]:
            raise SetupError(f"{target.name} does not serve: {failed}")
        send(target.pids(), signal.SIGSTOP)
        # However this ends, it must be able to hear that it should stop.
        running.callback(wake, target)
        targets.append(target)
    return targets


def beside(
    own: Own, peer: Peer, options: argparse.Namespace
) -> contextlib.AbstractContextManager[Target]:
    """Run a peer with the base and the adapter that our server has."""
    settings = ModelSettings(data_dir=own.server.data_dir)
    adapter = AdapterStore(settings.adapters_dir).path(own.manifests[0].version)
    place = Place(peer.environment, imported_folder(settings), adapter, free_port())
    return serving_peer(peer, place, may_end=options.may_end)


def in_turns(targets: Sequence[Target], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all servers at each number of streams, round after round."""
    rows = []
    for number in range(options.rounds):
        for streams in options.streams:
            for target in targets:
                load = target.load(options, streams, seed=number)
                with awake(target):
                    figures = target.measure(load)
                row = {"server": target.name, "round": number + 1, "streams": streams, **figures}
                show(target.name, row)
                rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return tokens per second by number of streams and server, and ours over each other's."""
    rates: dict[str, dict[str, float]] = {}
    for streams in sorted({row["streams"] for row in rows}):
        here = [row for row in rows if row["streams"] == streams]
        rates[str(streams)] = {
            name: statistics.fmean(r["tokens_per_second"] for r in here if r["server"] == name)
            for name in names
        }
    ratios = {
        streams: {name: round(by_name[OURS] / rate, 2) for name, rate in by_name.items()}
        for streams, by_name in rates.items()
    }
    return {"tokens_per_second": rates, "ours_over": ratios}


def show_table(figures: dict[str, Any], names: Sequence[str]) -> None:
    """Print both parts of the table."""
    for title, part in figures.items():
        sys.stderr.write(f"\n{title:<18}" + "".join(f"{name:>16}" for name in names) + "\n")
        for streams, by_name in part.items():
            cells = "".join(f"{by_name[name]:>16.2f}" for name in names)
            sys.stderr.write(f"{streams:>18}{cells}\n")


def main() -> int:
    """Run the bench."""
    end_in_order()
    every = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", choices=every, default=every, metavar="PEER")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--may-end", action="store_true", help="send no `ignore_eos` to any server")
    parser.add_argument("--setup-only", action="store_true", help="install the peers, no more")
    add_load_options(parser)
    options = parsed(parser)
    peers = [peer for peer in PEERS if peer.name in options.peers]
    try:
        for peer in peers:
            peer.environment.ready()
        if options.setup_only:
            return 0
        with contextlib.ExitStack() as running:
            rows = in_turns(start_all(peers, options, running), options)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    names = [OURS, *(peer.name for peer in peers)]
    figures = table(rows, names)
    show_table(figures, names)
    installed = {peer.name: peer.environment.recipe for peer in peers}
    about = {"machine": describe(), "options": reported(options), "installed": installed}
    write_results("serving", {**about, **figures, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
