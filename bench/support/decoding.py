"""Decodes replies with our engine in this process, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.adapters import AdapterStore
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner
from models.types import GenerationRequest, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.decoding.runner import Runner
    from models.settings import LearnerSettings


@dataclass(frozen=True, slots=True)
class Job:
    """One reply to decode."""

    prompt: tuple[int, ...]
    version: str


def prepared(settings: LearnerSettings, runner: Runner, versions: Sequence[str]) -> dict[str, Any]:
    """Return published versions in the runner's own form."""
    store = AdapterStore(settings.adapters_dir)
    return {version: runner.prepare(read_adapter(store.path(version))) for version in versions}


def make_engine(settings: LearnerSettings, versions: Sequence[str]) -> Engine:
    """Return an engine with every version loaded."""
    base, bank = load_base(settings), AdapterBank()
    runner = make_runner(base, settings)
    for version, adapter in prepared(settings, runner, versions).items():
        bank.add(version, adapter)
    return Engine(base, runner, bank, settings)


def decode(engine: Engine, jobs: Sequence[Job], sampling: Sampling) -> list[list[Token]]:
    """Decode all jobs together."""
    replies: dict[str, list[Token]] = {}
    for number, job in enumerate(jobs):
        request = GenerationRequest(str(number), job.prompt, job.version, sampling)
        engine.scheduler.submit(engine.make_row(request))
        replies[request.id] = []
    while not engine.scheduler.idle:
        for gain in engine.step():
            replies[gain.row.id].append(gain.token)
    return list(replies.values())
