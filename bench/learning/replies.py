"""Decodes replies of any version with our engine; every arm uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.learning.remembered import Remembered, Reply
from bench.support.paths import ROOT
from models.adapters import AdapterStore
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_second_runner
from models.policy.policy import Policy
from models.probes.scoring import drawn_sample
from models.types import BASE, GenerationRequest, Message, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.settings import LearnerSettings

TOKENS = 48
"""Most tokens of a reply."""
MEMORY = ROOT / "var" / "bench"
"""Where the base's own replies are remembered: all runs measure against the same ones."""


class Replies:
    """An engine, and the versions that it has read.

    Attributes:
        base: What it decodes.
        policy: The same, to score replies with; a base can have one only.
    """

    def __init__(self, settings: LearnerSettings, tokens: int, memory: Path) -> None:
        """Load the base; its own replies, with their seeds, are remembered below ``memory``."""
        roomy = settings.model_copy(update={"max_queue": 100_000, "max_queue_per_user": 100_000})
        self.base = load_base(roomy)
        self.policy = Policy(self.base, roomy)
        self._tokens = tokens
        mark = f"{self.base.content_hash[:12]}-{settings.dtype}-{tokens}"
        self._remembered = Remembered(memory / f"base-{mark}.jsonl")
        self._store = AdapterStore(settings.adapters_dir)
        self._bank = AdapterBank()
        self._runner = make_second_runner(self.base, roomy)
        self._engine = Engine(self.base, self._runner, self._bank, roomy)

    def ask(self, prompts: Sequence[str], version: str, seeds: Sequence[int]) -> list[Reply]:
        """Return one reply to each prompt, drawn at temperature 1 with its seed."""
        if version != BASE:
            return self._draw(prompts, version, seeds)
        turns = list(zip(prompts, seeds, strict=True))
        new = [turn for turn in turns if self._remembered.get(*turn) is None]
        if new:
            drawn = self._draw([p for p, _ in new], BASE, [s for _, s in new])
            self._remembered.add(zip((s for _, s in new), drawn, strict=True))
        known = [self._remembered.get(*turn) for turn in turns]
        return [reply for reply in known if reply is not None]

    def _draw(self, prompts: Sequence[str], version: str, seeds: Sequence[int]) -> list[Reply]:
        self._hold_only(version)
        encoded = [self.base.encode_chat([Message("user", prompt)]) for prompt in prompts]
        drawn: dict[str, list[tuple[int, float]]] = {}
        for number, (ids, seed) in enumerate(zip(encoded, seeds, strict=True)):
            sampling = Sampling(max_tokens=self._tokens, seed=seed)
            request = GenerationRequest(str(number), ids, version, sampling)
            self._engine.scheduler.submit(self._engine.make_row(request))
            drawn[request.id] = []
        while not self._engine.scheduler.idle:
            for gain in self._engine.step():
                drawn[gain.row.id].append((gain.token.id, gain.token.logprob))
        return [
            self._reply(prompt, ids, tokens)
            for prompt, ids, tokens in zip(prompts, encoded, drawn.values(), strict=True)
        ]

    def _hold_only(self, version: str) -> None:
        for other in self._bank.loaded() - {BASE, version}:
            self._bank.retire(other)
        if version not in self._bank.loaded():
            folder = self._store.path(version)
            self._bank.add(version, self._runner.prepare(read_adapter(folder)))

    def _reply(
        self, prompt: str, prompt_ids: tuple[int, ...], drawn: Sequence[tuple[int, float]]
    ) -> Reply:
        ids = tuple(token for token, _ in drawn)
        return Reply(
            prompt=prompt,
            prompt_ids=prompt_ids,
            ids=ids,
            logprobs=tuple(logprob for _, logprob in drawn),
            text=self.base.tokenizer.decode(ids, skip_special_tokens=True),
            ended=ids[-1] in self.base.end_ids,
        )

    def base_logprobs(self, replies: Sequence[Reply]) -> list[float]:
        """Return the log-prob of each whole reply under the base, in nats."""
        samples = [
            drawn_sample(reply.prompt_ids, list(map(Token, reply.ids, reply.logprobs)))
            for reply in replies
        ]
        scored = self.policy.reply_logprobs(samples, reference=True)
        return [values.sum().item() for values in scored]
