"""Keeps the base's replies that a run has drawn, so that the next run need not draw them again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from models.types import BASE, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it was decoded; ``logprobs`` are those of ``ids`` when they were drawn."""

    prompt: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    ended: bool


def as_sample(reply: Reply, completion_id: str, version: str = BASE) -> Sample:
    """Return a reply, drawn at temperature 1, as one that nobody has voted on yet."""
    return Sample(
        completion_id=completion_id,
        user="",
        prompt_ids=reply.prompt_ids,
        response_ids=reply.ids,
        behaviour_logprobs=reply.logprobs,
        temperature=1.0,
        reward=0.0,
        version=version,
        ended=reply.ended,
    )


class Remembered:
    """A file of replies by prompt and seed; several runs may add to it at the same time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[tuple[str, int], Reply] = {}
        if file.exists():
            self._known = dict(map(_read, file.read_text(encoding="utf-8").splitlines()))

    def get(self, prompt: str, seed: int) -> Reply | None:
        """Return a reply, if it was drawn before."""
        return self._known.get((prompt, seed))

    def add(self, drawn: Iterable[tuple[int, Reply]]) -> None:
        """Keep replies with the seeds that they were drawn with."""
        new = {(reply.prompt, seed): reply for seed, reply in drawn}
        self._known |= new
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write("".join(_line(seed, reply) for (_, seed), reply in new.items()))


def _line(seed: int, reply: Reply) -> str:
    return json.dumps({"seed": seed, **asdict(reply)}) + "\n"


def _read(line: str) -> tuple[tuple[str, int], Reply]:
    raw = json.loads(line)
    seed = raw.pop("seed")
    lists = {name: tuple(raw[name]) for name in ("prompt_ids", "ids", "logprobs")}
    return (raw["prompt"], seed), Reply(**{**raw, **lists})
