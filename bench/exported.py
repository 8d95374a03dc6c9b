"""Loads a version that we export with plain PEFT and with vLLM, and compares their replies to ours.

    python -m bench.exported
    python -m bench.exported --without-vllm

A random adapter is published, exported as an archive and unpacked. Plain PEFT decodes greedily in
fp32; its replies must be ours token for token, and its log-probs of them are compared with those
that our engine recorded. vLLM (its build for CPUs, installed by `bench.support.peer_setup`) serves
the same folder: it decodes greedily itself, in fp32 and in bf16, and says the log-probs of our
replies, which it is given as prompts. In bf16 vLLM rounds otherwise than our engine.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import torch

from bench.support.adapters import publish_adapters
from bench.support.decoding import Job, decode, make_engine
from bench.support.machine import describe, write_results
from bench.support.own_server import share_base
from bench.support.peer_servers import (
    PEERS,
    Peer,
    Place,
    free_port,
    serving_peer,
    vllm_adapter_command,
)
from bench.support.peer_setup import VLLM, SetupError
from bench.support.progress import overwrite, say
from bench.support.questions import GIVEN, chosen_file, read_questions
from models.adapters import AdapterStore
from models.base.loading import imported_folder, load_base
from models.settings import LearnerSettings
from models.types import Message, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOLERANCE = 1e-3
REPLY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One greedy reply of ours; ``logprobs`` are those that the engine recorded."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


def our_replies(
    settings: LearnerSettings, version: str, texts: Sequence[str], tokens: int
) -> list[Reply]:
    """Decode greedily with our engine."""
    encode = load_base(settings).encode_chat
    jobs = [Job(encode([Message("user", text)]), version) for text in texts]
    sampling = Sampling(temperature=0, max_tokens=tokens)
    found: list[list[Token]] = decode(make_engine(settings, [version]), jobs, sampling)
    return [
        Reply(job.prompt, tuple(t.id for t in reply), tuple(t.logprob for t in reply))
        for job, reply in zip(jobs, found, strict=True)
    ]


def unpacked(settings: LearnerSettings, version: str, target: Path) -> Path:
    """Export a version as an archive, as an operator does, and unpack it."""
    archive = target / "export.tar.gz"
    AdapterStore.open(settings).export(version, archive)
    with tarfile.open(archive) as packed:
        packed.extractall(target, filter="data")
    return target / version


class PlainPeft:
    """transformers and PEFT, with nothing of ours."""

    def __init__(self, base: Path, adapter: Path, dtype: torch.dtype) -> None:
        from peft import PeftModel  # noqa: PLC0415 - only in this half of the bench
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        self._model = PeftModel.from_pretrained(model, adapter).eval()
        self._end = AutoTokenizer.from_pretrained(base).eos_token_id

    @torch.no_grad()
    def greedy(self, prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
        """Return its greedy reply."""
        ids = torch.tensor([list(prompt)])
        out = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=self._end,
        )
        return tuple(out[0, len(prompt) :].tolist())

    @torch.no_grad()
    def logprobs(self, reply: Reply) -> tuple[float, ...]:
        """Return the log-probs of a reply's tokens by one forward pass."""
        logits = self._model(torch.tensor([[*reply.prompt, *reply.ids]])).logits[0]
        picked = logits[len(reply.prompt) - 1 : -1].float().log_softmax(-1)
        return tuple(picked.gather(1, torch.tensor(reply.ids)[:, None])[:, 0].tolist())


class Vllm:
    """A running vLLM server with the adapter live."""

    def __init__(self, url: str, model: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=REPLY_SECONDS, trust_env=False)
        self._model = model

    def greedy(self, prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
        """Return its greedy reply."""
        body = {"prompt": list(prompt), "max_tokens": tokens, "return_token_ids": True}
        return tuple(self._complete(body)["token_ids"])

    def logprobs(self, reply: Reply) -> tuple[float, ...]:
        """Return the log-probs of a reply's tokens, which are given as a prompt."""
        body = {"prompt": [*reply.prompt, *reply.ids], "max_tokens": 1, "prompt_logprobs": 0}
        found = self._complete(body)["prompt_logprobs"][len(reply.prompt) :]
        return tuple(
            each[str(token)]["logprob"] for each, token in zip(found, reply.ids, strict=True)
        )

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        whole = {"model": self._model, "temperature": 0, **body}
        answer = self._http.post("/v1/completions", json=whole).raise_for_status()
        choice: dict[str, Any] = answer.json()["choices"][0]
        return choice


def compare(
    replies: Sequence[Reply],
    greedy: Callable[[Sequence[int], int], tuple[int, ...]],
    logprobs: Callable[[Reply], tuple[float, ...]],
    tokens: int,
) -> dict[str, Any]:
    """Compare another program's greedy replies, and its log-probs of ours, with ours."""
    gaps, same, agreed = [], 0, 0
    for number, reply in enumerate(replies):
        overwrite(f"reply {number + 1}/{len(replies)}   ")
        theirs = greedy(reply.prompt, tokens)
        same += theirs == reply.ids
        agreed += next(
            (at for at, (a, b) in enumerate(zip(theirs, reply.ids, strict=False)) if a != b),
            len(reply.ids),
        )
        gaps += [abs(a - b) for a, b in zip(logprobs(reply), reply.logprobs, strict=True)]
    return {
        "replies": len(replies),
        "same_replies": same,
        "tokens": len(gaps),
        "tokens_before_the_first_difference": agreed,
        "log_prob_difference_mean": sum(gaps) / len(gaps),
        "log_prob_difference_max": max(gaps),
    }


def with_vllm(
    base: Path, adapter: Path, replies: Sequence[Reply], dtype: str, tokens: int
) -> dict[str, Any]:
    """Serve the exported folder with vLLM in a number format, and compare."""
    named = next(peer for peer in PEERS if peer.name == "vllm-adapter")

    def command(place: Place) -> tuple[str, ...]:
        return (*vllm_adapter_command(place), "--dtype", dtype, "--enforce-eager")

    peer = Peer(
        f"vllm-exported-{dtype}", VLLM, command, named.model, named.variables, ignores_end=False
    )
    place = Place(VLLM, base, adapter, free_port())
    with serving_peer(peer, place, may_end=True) as target:
        served = Vllm(target.url, target.model)
        return compare(replies, served.greedy, served.logprobs, tokens)


def main() -> int:
    """Run the bench; the exit code is 0 only if PEFT's replies are ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=Path, default=GIVEN, help="JSON lines with a `prompt`")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of plain PEFT")
    parser.add_argument("--without-vllm", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="thumbloop-exported-") as folder:
        data_dir = Path(folder) / "data"
        share_base(data_dir)
        (manifest,) = publish_adapters(data_dir, 1)
        exact = LearnerSettings(data_dir=data_dir, dtype="float32")
        rounded = exact.model_copy(update={"dtype": "bfloat16"})
        texts = read_questions(chosen_file(options.prompts))[: options.count]
        base, adapter = imported_folder(exact), unpacked(exact, manifest.version, Path(folder))
        ours = our_replies(exact, manifest.version, texts, options.tokens)
        say("plain PEFT, fp32 …")
        peft = PlainPeft(base, adapter, torch.float32)
        figures = {"peft_float32": compare(ours, peft.greedy, peft.logprobs, options.tokens)}
        del peft
        if not options.without_vllm:
            ours_rounded = our_replies(rounded, manifest.version, texts, options.tokens)
            VLLM.ready()
            for dtype, replies in (("float32", ours), ("bfloat16", ours_rounded)):
                say(f"vLLM, {dtype} …")
                figures[f"vllm_{dtype}"] = with_vllm(base, adapter, replies, dtype, options.tokens)
    about = {"machine": describe(), "options": {"count": options.count, "tokens": options.tokens}}
    write_results("exported", {**about, "vllm": VLLM.recipe, **figures})
    found = figures["peft_float32"]
    same = found["same_replies"] == found["replies"]
    return int(not same or found["log_prob_difference_max"] > TOLERANCE)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
