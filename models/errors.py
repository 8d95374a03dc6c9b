"""Errors of the models folder.

ModelsError
├── BaseModelError        the base model is missing, broken or of an unsupported kind
├── AdapterError          an adapter folder is missing, broken, or not for this base
│   └── ImportRefusedError    an adapter from elsewhere does not fit, or is not safe
├── AdapterStoreUnavailableError  the object store of adapters does not answer
├── ChatTemplateError     the base's chat template refuses a conversation
├── ToolsUnsupportedError  the base's chat template has no tools
├── PromptTooLongError    prompt plus reply do not fit the context
├── GrammarError          a reply's schema cannot be held while decoding
├── UnknownTokenError     a request names a token that the vocabulary lacks
├── EngineError           the decoding engine is closed or failed
│   └── QueueFullError    too many requests wait already
├── RecipeError           a recipe cannot be read, or its fields do not go together
├── GateError             the gate cannot run, so no candidate goes live
├── RolloutRefusedError   the rules of the rollout do not allow a command
└── LearningError         the batch cannot be learned from, or learning went wrong
"""

from __future__ import annotations

from typing import Literal

RefusedBecause = Literal[
    "unknown", "state", "live", "confirmed", "canary", "nothing", "fraction", "paused"
]


class ModelsError(Exception):
    """Base of all errors here; the message tells the reader what to do."""


class BaseModelError(ModelsError):
    """The base model is missing, broken or of an unsupported kind."""


class AdapterError(ModelsError):
    """An adapter folder is missing, broken, or not made for this base."""


class ImportRefusedError(AdapterError):
    """An adapter from elsewhere does not fit what is served here, or is not safe to take."""


class AdapterStoreUnavailableError(ModelsError, OSError):
    """The object store of adapters does not answer; no adapter is to blame, as with a full disk."""


class ChatTemplateError(ModelsError):
    """The base's chat template refuses a conversation; the message is the template's own."""


class ToolsUnsupportedError(ModelsError):
    """The base's chat template has no tools, or other ways of calling them than are known."""


class PromptTooLongError(ModelsError):
    """The prompt leaves no room for a reply in the model's context."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context_length: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context_length = context_length
        super().__init__(
            f"This model's context is {context_length} tokens, but {prompt_tokens + max_tokens} "
            f"were asked for ({prompt_tokens} in the messages, {max_tokens} for the reply). "
            "Shorten the messages or lower max_tokens."
        )


class GrammarError(ModelsError):
    """The schema of a reply is none, or cannot be held while decoding."""


class UnknownTokenError(ModelsError):
    """A request names the id of a token that the model's vocabulary lacks."""


class EngineError(ModelsError):
    """The decoding engine is closed, or a step of it failed."""


class QueueFullError(EngineError):
    """Too many requests wait already, of all users or of this one; try again later.

    Attributes:
        waiting: Requests that wait, of all users.
        own: Those of the refused user, where it is they that are too many.
    """

    def __init__(self, waiting: int, *, own: int | None = None) -> None:
        self.waiting = waiting
        self.own = own
        super().__init__(
            f"{waiting} requests wait already: try again in a few seconds."
            if own is None
            else f"{own} of your requests wait already: let some of them end before you send more."
        )


class RolloutRefusedError(ModelsError):
    """The rules of the rollout do not allow a command.

    Attributes:
        because: What stands against it; ``unknown`` where there is no such version.
    """

    def __init__(self, because: RefusedBecause, message: str) -> None:
        self.because = because
        super().__init__(message)


class RecipeError(ModelsError, ValueError):
    """A recipe cannot be read, or its fields do not go together."""


class GateError(ModelsError):
    """The gate cannot run, through no fault of the version that it should check."""


class LearningError(ModelsError):
    """The batch cannot be learned from, or learning produced something unusable."""
