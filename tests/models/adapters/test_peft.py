"""Plain PEFT saves what we take in, loads what we export, and decodes the same replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.adapters import AdapterRequirements, AdapterStore
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner
from models.learning.state import load_state
from models.policy.policy import Policy
from models.types import GenerationRequest, Sampling
from tests.support.models.adapter_files import import_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.settings import LearnerSettings
    from models.types import Token

PROMPTS = tuple(tuple(range(5 + n, 12 + 3 * n)) for n in range(6))
TOKENS = 12


def ours(settings: LearnerSettings, version: str) -> list[list[Token]]:
    """Decode greedy replies with our engine."""
    base, bank = load_base(settings), AdapterBank()
    runner = make_runner(base, settings)
    folder = AdapterStore.open(settings).fetch(version)
    bank.add(version, runner.prepare(read_adapter(folder)))
    engine = Engine(base, runner, bank, settings)
    replies: list[list[Token]] = [[] for _ in PROMPTS]
    for number, prompt in enumerate(PROMPTS):
        sampling = Sampling(temperature=0, max_tokens=TOKENS)
        engine.scheduler.submit(
            engine.make_row(GenerationRequest(str(number), prompt, version, sampling))
        )
    while not engine.scheduler.idle:
        for gain in engine.step():
            replies[int(gain.row.id)].append(gain.token)
    return replies


def plain_peft(settings: LearnerSettings, folder: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(settings.base_model, dtype=torch.float32)
    return PeftModel.from_pretrained(model, folder).eval()


def greedy(model: Any, prompt: Sequence[int]) -> list[int]:
    ids = torch.tensor([list(prompt)])
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            do_sample=False,
            pad_token_id=2,
        )
    return out[0, len(prompt) :].tolist()


def logprobs(model: Any, prompt: Sequence[int], reply: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    picked = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
    return picked.gather(1, torch.tensor(reply)[:, None])[:, 0]


@pytest.mark.parametrize("name", ["folder", "a.tar.gz"])
def test_plain_peft_gives_the_same_greedy_replies_as_ours(
    settings: LearnerSettings, make_version: Callable[[int], str], tmp_path: Path, name: str
) -> None:
    version = make_version(1)
    store = AdapterStore.open(settings)
    store.export(version, tmp_path / name)
    folder = tmp_path / name
    if name != "folder":
        import tarfile

        with tarfile.open(folder) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
        folder = tmp_path / "unpacked" / version
    model = plain_peft(settings, folder)
    for prompt, reply in zip(PROMPTS, ours(settings, version), strict=True):
        ids = [token.id for token in reply]
        assert greedy(model, prompt) == ids
        recorded = torch.tensor([token.logprob for token in reply])
        assert torch.allclose(logprobs(model, prompt, ids), recorded, atol=1e-4)
        with model.disable_adapter():
            assert not torch.allclose(logprobs(model, prompt, ids), recorded, atol=1e-2)


def test_what_peft_saves_is_taken_in_and_decodes_as_peft_does(
    settings: LearnerSettings, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(settings.base_model, dtype=torch.float32)
    model = get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules="all-linear"),
    )
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2, generator=noise)
    model.save_pretrained(tmp_path / "pefts")
    model.eval()
    store = AdapterStore.open(settings)
    wanted = AdapterRequirements.from_settings(settings)
    manifest = import_from(store, tmp_path / "pefts", sequence=4, wanted=wanted, now=1.0)
    for prompt, reply in zip(PROMPTS, ours(settings, manifest.version), strict=True):
        assert greedy(model, prompt) == [token.id for token in reply]
    # The learner takes it too, with a fresh optimiser.
    policy = Policy(load_base(settings), settings)
    policy.load(store.fetch(manifest.version))
    assert load_state(store.path(manifest.version)).step == 0
