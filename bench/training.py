"""Times one update in turns: ours, plain loops, TRL's PPO and KTO, and the bare arithmetic.

64 votes on replies of 48 tokens to prompts of 64, LoRA of rank 8 on all linear layers of the
default base, 4 epochs in minibatches of 8. Each arm runs in a process of its own; peers in an
environment of their own, which the first run installs into ``var/peers``. No two prompts begin
alike, so nothing is gained by sharing them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.support.machine import describe, write_results
from bench.support.own_server import share_base
from bench.support.paths import ROOT
from bench.support.peer_setup import TRL, SetupError
from bench.support.progress import say
from models.adapters import AdapterStore, Origin
from models.base.loading import ensure_base, load_base
from models.policy.batch import collate
from models.policy.policy import Policy
from models.settings import LearnerSettings
from models.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = ROOT / "LICENSE"
PROMPT, REPLY, MINIBATCH = 64, 48, 8


@dataclass(frozen=True, slots=True)
class Arm:
    """A program of ``bench/train/``, in one of its forms."""

    name: str
    program: str
    form: str = ""
    peer: bool = False


ARMS = (
    Arm("ours", "ours", "version"),
    Arm("ours, first update", "ours", "base"),
    Arm("ours, with practice", "ours", "practice"),
    Arm("bare bf16 products", "floor"),
    Arm("plain loop, bf16 autocast", "plain", "bf16"),
    Arm("plain loop, fp32", "plain", "fp32"),
    Arm("TRL 1.9 KTO, one pass, fp32", "trl_kto", "fp32", peer=True),
    Arm("TRL 1.9 KTO, one pass, bf16", "trl_kto", "bf16", peer=True),
    Arm("TRL 1.9 PPO, fp32", "trl_ppo", "fp32", peer=True),
)


def prepare(folder: Path, *, votes: int, epochs: int) -> dict[str, Any]:
    """Make what all arms are given, with an adapter to start from."""
    share_base(folder)
    settings = LearnerSettings(data_dir=folder)
    base = load_base(settings)
    policy = Policy(base, settings)
    policy.reset(0)
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, master in policy.master.items():
            if ".lora_B." in key:
                master.copy_(torch.randn(master.shape, generator=numbers) * 0.01)
    policy.publish_master()
    origin = Origin("base", 1, "", 0, base.name, base.content_hash, 0.0)
    store = AdapterStore(settings.adapters_dir)
    version = store.publish(1, origin, policy.save).version
    return {
        "base": ensure_base(settings, say),
        "version": version,
        "adapter": str(store.path(version)),
        "votes": _votes(policy, votes),
        "epochs": epochs,
        "minibatch": MINIBATCH,
        "rank": settings.lora_rank,
        "alpha": settings.lora_alpha,
    }


def _votes(policy: Policy, count: int) -> list[dict[str, Any]]:
    """Cut prompts and replies out of an English text; the votes are random."""
    chance = random.Random(0)
    ids = policy.base.tokenizer(SOURCE.read_text(encoding="utf-8"))["input_ids"]
    starts = chance.sample(range(len(ids) - PROMPT - REPLY), count)
    votes = []
    for start in starts:
        prompt, reply = ids[start : start + PROMPT], ids[start + PROMPT : start + PROMPT + REPLY]
        sample = Sample(
            "", "", tuple(prompt), tuple(reply), (0.0,) * REPLY, 1.0, 0.0, "", ended=False
        )
        with torch.no_grad():
            scored = policy.logprobs(collate([sample], [0], device="cpu"))[0]
        # as if an earlier version had written the reply
        logprobs = [min(0.0, x + chance.gauss(0, 0.1)) for x in scored.tolist()]
        reward = 1.0 if chance.random() < 0.5 else -1.0
        votes.append({"prompt": prompt, "reply": reply, "logprobs": logprobs, "reward": reward})
    return votes


def run(arm: Arm, asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a program in a process of its own; return its figures."""
    request, answer = folder / "given.json", folder / "figures.json"
    request.write_text(json.dumps(asked | {"form": arm.form}))
    answer.unlink(missing_ok=True)
    python = TRL.program("python") if arm.peer else sys.executable
    log = folder / "log.txt"
    with log.open("w") as out:
        subprocess.run(
            [python, "-m", f"bench.train.{arm.program}", str(request), str(answer)],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not answer.is_file():
        lines = "\n".join(log.read_text().splitlines()[-12:])
        raise SetupError(f"{arm.name} failed:\n{lines}")
    figures: dict[str, Any] = json.loads(answer.read_text())
    return figures


def summary(turns: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return each arm's best turn beside ours: noise on a shared machine only adds."""
    names = dict.fromkeys(name for turn in turns for name in turn)
    best = {
        name: min((t[name] for t in turns if name in t), key=lambda f: f["seconds"])
        for name in names
    }
    mine = best["ours"]
    return {
        name: figures
        | {
            "ours_of_its_seconds": round(mine["seconds"] / figures["seconds"], 3),
            "ours_of_its_cpu_seconds": round(mine["cpu_seconds"] / figures["cpu_seconds"], 3),
        }
        for name, figures in best.items()
    }


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="16 votes, 1 epoch, no peers")
    parser.add_argument("--turns", type=int, default=1, help="times that each arm runs")
    parser.add_argument(
        "--arms", default="", help="names to run, how they begin, with semicolons between"
    )
    parser.add_argument("--name", help="of the file in bench/results; training or training-quick")
    return parser.parse_args()


def main() -> None:
    """Run the bench."""
    chosen = options()
    arms = [arm for arm in ARMS if chosen.arms or not (chosen.quick and arm.peer)]
    wanted = [part.strip() for part in chosen.arms.split(";") if part.strip()]
    if wanted:
        arms = [arm for arm in arms if any(arm.name.startswith(part) for part in wanted)]
    if any(arm.peer for arm in arms):
        TRL.ready()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = prepare(folder, votes=16 if chosen.quick else 64, epochs=1 if chosen.quick else 4)
        turns: list[dict[str, dict[str, Any]]] = []
        for _ in range(chosen.turns):
            turns.append({})
            for arm in arms:
                turns[-1][arm.name] = run(arm, asked, folder)
                say(f"{arm.name}: {turns[-1][arm.name]}")
        agreement = run(Arm("agreement", "agreement"), asked, folder)
    figures = {
        "machine": describe(),
        "votes": len(asked["votes"]),
        "epochs": asked["epochs"],
        "arms": summary(turns),
        "turns": turns,
        "gradient_beside_plain_fp32": {k: agreement[k] for k in ("bfloat16", "float32")},
    }
    write_results(chosen.name or ("training-quick" if chosen.quick else "training"), figures)


if __name__ == "__main__":
    main()
