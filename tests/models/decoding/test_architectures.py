"""The generic runner on tiny random models of many kinds, against transformers' own decoding."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
import transformers

from models.base.loading import Base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import Factors, read_adapter
from models.decoding.runners import make_runner
from models.errors import AdapterError, EngineError
from models.settings import ModelSettings
from models.types import BASE, GenerationRequest, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TUNED = "v000001-000000000000"
END = 0
WINDOW = 10  # of the layers that see only the last tokens: less than the texts have
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": END,
    "bos_token_id": 1,
    "eos_token_id": END,
    "tie_word_embeddings": False,  # or a random model says the same token again and again
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 16}
MIXED_LAYERS = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
SERVED: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Qwen2": {"num_key_value_heads": 2, "use_sliding_window": True, **MIXED_LAYERS},
    "Qwen3": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": WINDOW},
    "GPTNeoX": {"rotary_pct": 0.5, "use_parallel_residual": True},
    "Gemma": {"num_key_value_heads": 1, "head_dim": 16},
    "Gemma2": {**GROUPED, **MIXED_LAYERS, "attn_logit_softcapping": 0.5},
    "Gemma3Text": {**GROUPED, **MIXED_LAYERS},
    "Cohere2": {"num_key_value_heads": 2, **MIXED_LAYERS},
    "Llama4Text": {**GROUPED, "intermediate_size_mlp": 64, "attention_chunk_size": WINDOW},
    "Mixtral": {**GROUPED, "num_local_experts": 4, "sliding_window": WINDOW},
}
EXPERTS = {"mixtral", "llama4_text"}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]  # experts are no linear layers, see below
PROMPTS = [tuple(range(5, 45)), (7, 9, 11), (50,), tuple(range(60, 90))]
GREEDY = Sampling(temperature=0.0, max_tokens=16)


def _model(name: str, **changes: Any) -> Any:
    values = {key: value for key, value in {**SIZES, **changes}.items() if value is not None}
    config = getattr(transformers, f"{name}Config")(**values)
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    return model.eval().requires_grad_(requires_grad=False)


def _settings(folder: Path) -> ModelSettings:
    return ModelSettings(
        data_dir=folder, context_length=64, max_rows=4, prefill_chunk=16, runner="transformers"
    )


def _base(model: Any) -> Base:
    return Base(model=model, tokenizer=None, name="tiny", content_hash="", end_ids=frozenset({END}))


def _tune(model: Any, folder: Path) -> Any:
    """Save a random adapter, and return a model that has it."""
    targets = ATTENTION if model.config.model_type in EXPERTS else "all-linear"
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(copy.deepcopy(model), config)
    random = torch.Generator().manual_seed(2)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=random) * 0.2
    tuned.save_pretrained(folder)
    return tuned.eval()


def _decode(engine: Engine, jobs: Sequence[tuple[tuple[int, ...], str]]) -> list[list[Token]]:
    replies: dict[str, list[Token]] = {}
    for number, (prompt, version) in enumerate(jobs):
        request = GenerationRequest(str(number), prompt, version, GREEDY)
        replies[request.id] = []
        engine.scheduler.submit(engine.make_row(request))
    while not engine.scheduler.idle:
        for gain in engine.step():
            replies[gain.row.id].append(gain.token)
    return list(replies.values())


def _generate(model: Any, prompt: tuple[int, ...]) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=GREEDY.max_tokens,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=END,
    )
    return out[0, len(prompt) :].tolist()


def _check_log_probs(model: Any, prompt: tuple[int, ...], reply: Sequence[Token]) -> None:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *(t.id for t in reply)]])).logits[0]
    logprobs = logits.log_softmax(-1)
    for index, token in enumerate(reply, len(prompt) - 1):
        assert token.logprob == pytest.approx(logprobs[index, token.id].item(), abs=1e-4)


@pytest.mark.parametrize("name", SERVED)
def test_greedy_replies_are_those_of_transformers_alone_and_beside_others(
    name: str, tmp_path: Path
) -> None:
    model = _model(name, **SERVED[name])
    references = {BASE: copy.deepcopy(model), TUNED: _tune(model, tmp_path)}
    settings, bank, base = _settings(tmp_path), AdapterBank(), _base(model)
    engine = Engine(base, make_runner(base, settings), bank, settings)
    bank.add(TUNED, engine.runner.prepare(read_adapter(tmp_path)))
    jobs = [(prompt, version) for prompt in PROMPTS for version in references]
    together = _decode(engine, jobs)
    assert len({tuple(t.id for t in reply) for reply in together}) == len(jobs)
    for (prompt, version), reply in zip(jobs, together, strict=True):
        expected = _generate(references[version], prompt)
        assert [t.id for t in reply] == expected
        assert [t.id for t in _decode(engine, [(prompt, version)])[0]] == expected
        _check_log_probs(references[version], prompt, reply)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("Bloom", {"max_position_embeddings": None}, "attention cannot be replaced"),
        ("GptOss", {**GROUPED, "num_local_experts": 4}, "s_aux"),
        ("Mamba", {"max_position_embeddings": None}, "linear_attention"),
        ("Jamba", {"num_key_value_heads": 2}, "linear_attention"),
        (
            "Phi3",
            {
                "num_key_value_heads": 2,
                "original_max_position_embeddings": 32,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "short_factor": [1.0] * 4,
                    "long_factor": [4.0] * 4,
                },
            },
            "set THUMBLOOP_CONTEXT_LENGTH to 32 or less",
        ),
        ("Rwkv", {"attention_hidden_size": 32}, "more state than keys and values"),
    ],
)
def test_what_cannot_be_decoded_exactly_is_refused_at_start(
    name: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=reason):
        make_runner(_base(_model(name, **changes)), _settings(tmp_path))


def test_an_adapter_of_layers_that_do_not_see_rows_apart_is_refused(tmp_path: Path) -> None:
    """A router sees the tokens of all rows in one line."""
    model = _model("Llama4Text", **SERVED["Llama4Text"])
    runner = make_runner(_base(model), _settings(tmp_path))
    router = "model.layers.0.feed_forward.router"
    with pytest.raises(AdapterError, match="cannot be adapted row by row"):
        runner.prepare({router: Factors(a=torch.ones(1, 32), b=torch.ones(16, 1))})
