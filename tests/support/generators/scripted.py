"""A generator whose replies a test chooses: the words of the question pick one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from models.backends import EngineStats
from models.types import BASE, GenerationChunk, ReplyStyle, Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from models.types import GenerationRequest, Message, Tool

PLAIN = "The sky is blue because air scatters blue light the most."
MARKDOWN = """**Bold** and a [link](https://example.org/).

```python
print("hi")
```

<script>window.pwned = 1</script>
<img src="/nowhere.png" onerror="window.pwned = 2">

[click](javascript:window.pwned=3) ![picture](https://example.org/tracker.png)
"""
HEBREW = """שלום! מה שלומך? (test 123).

- ראשון (one)
- English first

```
left = 1
```
"""
REPLIES = {"markdown": MARKDOWN, "endless": "word " * 2000, "שלום": HEBREW}


class ScriptedGenerator:
    """Encodes each character as its code point, and says the reply that the question names."""

    context_length = 100_000

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.cancelled = 0
        self._loaded = {BASE}

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:
        del tools
        return tuple(map(ord, "\n".join(m.content for m in messages)))

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(self.token_text, ids))

    def reply_style(self, prompt_ids: Sequence[int], *, tools: bool) -> ReplyStyle:
        del prompt_ids, tools
        return ReplyStyle()

    def token_text(self, token_id: int) -> str:
        return chr(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode()

    async def load(self, version: str) -> None:
        self._loaded.add(version)

    async def unload(self, version: str) -> None:
        self._loaded.discard(version)

    def adjust_threads(self, *, learning: bool) -> None:
        self.learner_has_room = learning

    def loaded(self) -> frozenset[str]:
        return frozenset(self._loaded)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        prompt = "".join(map(chr, request.prompt_ids))
        self.prompts.append(prompt)
        question = prompt.rsplit("\n", 1)[-1]
        reply = next((text for word, text in REPLIES.items() if word in question), PLAIN)
        try:
            for start in range(0, len(reply), 5):
                await asyncio.sleep(0.002)
                text = reply[start : start + 5]
                tokens = tuple(Token(ord(char), -0.5) for char in text)
                last = start + 5 >= len(reply)
                yield GenerationChunk(text, tokens, "stop" if last else None)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    def stats(self) -> EngineStats:
        return EngineStats(0, 0, 0, 0)
