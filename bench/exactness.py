"""Compares the decoding engine with transformers, on real prompts and the real model.

Greedy replies of the base and of random adapters, each decoded alone and all in one mixed batch,
must be those of transformers' `generate` token for token in fp32; their log-probs those of a full
forward pass. In bf16, where rounding differs, it says how far the log-probs that the engine records
are from those that the learner computes for the same tokens.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.support.adapters import publish_adapters
from bench.support.decoding import Job, decode, make_engine
from bench.support.machine import describe, write_results
from bench.support.own_server import share_base
from bench.support.progress import overwrite, say
from bench.support.questions import GIVEN, chosen_file, read_questions
from models.adapters import AdapterStore
from models.base.loading import load_base
from models.policy.policy import Policy
from models.settings import LearnerSettings
from models.types import BASE, Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence


TOLERANCE = 1e-4


def by_version(jobs: Sequence[Job]) -> list[int]:
    """Return the jobs' indices, those of one version after one another."""
    return sorted(range(len(jobs)), key=lambda index: jobs[index].version)


class Reference:
    """transformers and PEFT, one version at a time."""

    def __init__(self, settings: LearnerSettings) -> None:
        self._base = load_base(settings)
        self._policy = Policy(self._base, settings)
        self._store = AdapterStore(settings.adapters_dir)

    def use(self, version: str) -> None:
        """Make ``version`` the policy."""
        if version == BASE:
            self._policy.reset(0)  # B is zero: the base
        else:
            self._policy.load(self._store.path(version))

    def generate(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """Return transformers' greedy reply."""
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            out = self._policy.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=next(iter(self._base.end_ids)),
            )
        reply: list[int] = out[0, len(prompt) :].tolist()
        return reply

    def replies(self, jobs: Sequence[Job], tokens: int) -> list[list[int]]:
        """Return transformers' greedy replies to all jobs."""
        found: dict[int, list[int]] = {}
        for index in by_version(jobs):
            overwrite(f"transformers' reply {len(found) + 1}/{len(jobs)}")
            self.use(jobs[index].version)
            found[index] = self.generate(jobs[index].prompt, tokens)
        return [found[index] for index in range(len(jobs))]

    def logprobs(self, prompt: Sequence[int], reply: Sequence[int]) -> torch.Tensor:
        """Return the log-probs of a reply by one full forward pass, ``[T]`` fp32."""
        ids = torch.tensor([[*prompt, *reply]])
        with torch.no_grad():
            logits = self._policy.model(ids).logits[0, len(prompt) - 1 : -1].float()
        wanted = torch.tensor(list(reply))[:, None]
        return logits.log_softmax(-1).gather(1, wanted)[:, 0]


def compare_greedy(
    settings: LearnerSettings,
    jobs: Sequence[Job],
    versions: Sequence[str],
    expected: Sequence[list[int]],
    tokens: int,
) -> dict[str, Any]:
    """Compare greedy replies, alone and together, with those that `Reference` gave."""
    engine, greedy = make_engine(settings, versions), Sampling(temperature=0, max_tokens=tokens)
    together = decode(engine, jobs, greedy)
    say("decoding each alone …")
    alone = [decode(engine, [job], greedy)[0] for job in jobs]
    reference, unlike, errors = Reference(settings), [], []
    for job in by_version(jobs):
        reference.use(jobs[job].version)
        found = [[token.id for token in replies[job]] for replies in (together, alone)]
        if found != [expected[job]] * 2:
            unlike.append({"version": jobs[job].version, "expected": expected[job], "found": found})
        recorded = torch.tensor([token.logprob for token in together[job]])
        errors.append((reference.logprobs(jobs[job].prompt, found[0]) - recorded).abs())
    same = [t == a for t, a in zip(together, alone, strict=True)]
    return {
        "replies": len(jobs),
        "tokens": sum(len(reply) for reply in together),
        "replies_unlike_transformers": len(unlike),
        "replies_whose_log_probs_differ_alone_and_together": same.count(False),
        "log_prob_error_max": float(torch.cat(errors).max()),
        "first_unlike": unlike[:3],
    }


def compare_sampled(
    settings: LearnerSettings, jobs: Sequence[Job], versions: Sequence[str], tokens: int
) -> dict[str, Any]:
    """Compare the recorded log-probs of sampled replies with the learner's arithmetic."""
    replies = decode(make_engine(settings, versions), jobs, Sampling(max_tokens=tokens, seed=1))
    reference, gaps = Reference(settings), []
    for job in by_version(jobs):
        reference.use(jobs[job].version)
        ids = [token.id for token in replies[job]]
        recorded = torch.tensor([token.logprob for token in replies[job]])
        gaps.append(reference.logprobs(jobs[job].prompt, ids) - recorded)
    gap = torch.cat(gaps)
    ratios = gap.exp()
    return {
        "tokens": len(gap),
        "gap_mean": float(gap.abs().mean()),
        "gap_max": float(gap.abs().max()),
        "share_of_ratios_outside_0.8_to_1.2": float(
            ((ratios < 0.8) | (ratios > 1.2)).float().mean()
        ),
    }


def main() -> int:
    """Run the bench; the exit code is 0 only if everything is the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=Path, default=GIVEN, help="JSON lines with a `prompt`")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--runner", choices=["native", "transformers"], default="native")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbloop-exact-") as folder:
        data_dir = Path(folder)
        share_base(data_dir)
        say("publishing random adapters …")
        versions = [manifest.version for manifest in publish_adapters(data_dir, 2)]
        exact = LearnerSettings(data_dir=data_dir, dtype="float32", runner=options.runner)
        encode = load_base(exact).encode_chat
        texts = read_questions(chosen_file(options.prompts))[: options.count]
        everyone = (BASE, *versions)
        jobs = [
            Job(encode([Message("user", text)]), everyone[number % len(everyone)])
            for number, text in enumerate(texts)
        ]
        expected = Reference(exact).replies(jobs, options.tokens)
        greedy = compare_greedy(exact, jobs, versions, expected, options.tokens)
        rounded = exact.model_copy(update={"dtype": "bfloat16"})
        sampled = {
            name: compare_sampled(settings, jobs, versions, options.tokens)
            for name, settings in (("float32", exact), ("bfloat16", rounded))
        }
    figures = {
        "machine": describe(),
        "runner": options.runner,
        "greedy_fp32": greedy,
        "sampled_against_the_learner": sampled,
    }
    write_results(f"exactness-{options.runner}", figures)
    same = not greedy["replies_unlike_transformers"]
    return int(not same or greedy["log_prob_error_max"] > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
