"""Grammars of replies: which tokens may come next so that a reply is valid JSON of a schema.

llguidance compiles a schema for the base's tokenizer, and says after each token which ones may
follow. A reply that ends by itself is valid; one that is cut at ``max_tokens`` is not.
"""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, hf
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from models.errors import GrammarError

_STYLE: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""Without a style a small model may write white space for ever."""
_LIMITS = LLParserLimits(max_items_in_row=20_000)
"""An object with a thousand optional properties is within them; its masks take 2 to 17 ms."""
_KEPT = 64
"""How many compiled grammars are kept."""


class GrammarMatcher:
    """Follows one reply through its grammar.

    Args:
        matcher: llguidance's matcher, at the beginning.
        vocabulary: The number of token ids.
        end_ids: The tokens that end a reply.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: int, end_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._bits = allocate_token_bitmask(1, vocabulary)
        self._ends = torch.zeros(vocabulary, dtype=torch.bool)
        self._ends[sorted(end_ids)] = True

    def allowed(self) -> torch.Tensor:
        """Return True for each token that may come next, ``[V]``; there is at least one."""
        if self._matcher.is_stopped() or self._matcher.is_error():
            return self._ends
        fill_next_token_bitmask(self._matcher, self._bits, 0)
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        allowed = torch.from_numpy(bits[: len(self._ends)].astype(bool))
        return allowed if allowed.any() else self._ends

    @property
    def failed(self) -> bool:
        """Whether the grammar was given up, as one that grows without bounds; the reply ends."""
        return bool(self._matcher.is_error())

    def accept(self, token_id: int) -> None:
        """Go on by one token."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token_id)


class Grammars:
    """Compiles JSON schemas for one tokenizer; threads may share it.

    Args:
        tokenizer: The base's tokenizer.
        vocabulary: The number of the model's token ids.
        end_ids: The tokens that end a reply.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary, self._end_ids = vocabulary, end_ids
        self._compiled: dict[str, LLMatcher] = {}
        self._lock = Lock()

    def matcher(self, schema: str) -> GrammarMatcher:
        """Return a matcher for replies of a JSON schema. The first one may take a second.

        Args:
            schema: The schema as JSON.

        Raises:
            GrammarError: The schema is none, or says what cannot be held while decoding.
        """
        with self._lock:
            found = self._compiled.pop(schema, None) or self._compile(schema)
            self._compiled[schema] = found
            if len(self._compiled) > _KEPT:
                del self._compiled[next(iter(self._compiled))]
            return GrammarMatcher(found.deep_copy(), self._vocabulary, self._end_ids)

    def _compile(self, schema: str) -> LLMatcher:
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults=_STYLE)
            matcher = LLMatcher(self._vocabulary_of_tokens, grammar, limits=_LIMITS)
        except ValueError as error:
            raise GrammarError(f"The schema cannot be held: {error}") from error
        if matcher.is_error():
            raise GrammarError(f"The schema cannot be held: {matcher.get_error()}")
        return matcher

    @cached_property
    def _vocabulary_of_tokens(self) -> LLTokenizer:
        if not self._tokenizer.is_fast or not self._end_ids:
            raise GrammarError("The tokenizer of this base takes no grammar: leave it out.")
        return hf.from_tokenizer(self._tokenizer, self._vocabulary, sorted(self._end_ids))
