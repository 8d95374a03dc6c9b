"""How a base's replies are to be read, as its chat template tells: calls of tools, and thoughts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateError, meta

from models.errors import ToolsUnsupportedError
from models.types import ReplyStyle, ToolStyle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.types import Message, Tool

_SIGNS: tuple[tuple[str, ToolStyle], ...] = (
    ("[TOOL_CALLS]", "mistral"),
    ("<tool_call>", "hermes"),
    ("<|python_tag|>", "llama"),
    ("dictionary of argument name and its value", "llama"),
)
"""What the templates of each kind of model have; Llama's own templates have the last one."""
_OTHER_CALLS = ("<function=", "tool▁call▁begin")
"""Calls that are no JSON, though they may be within ``<tool_call>``."""
_TAIL = 8
"""How many of the last tokens of a prompt can hold what opens a thought."""


def reply_style(tokenizer: Any, prompt_ids: Sequence[int], *, tools: bool) -> ReplyStyle:
    """Return how replies to a prompt are to be read.

    Args:
        tokenizer: The base's tokenizer.
        prompt_ids: The prompt.
        tools: Whether the prompt offers tools.

    Raises:
        ToolsUnsupportedError: The template tells of no way of calling tools that is known here.
    """
    style = _tool_style(_template(tokenizer)) if tools else None
    if "</think>" not in _template(tokenizer):
        return ReplyStyle(tools=style)
    tail = tokenizer.decode(prompt_ids[-_TAIL:], skip_special_tokens=False)
    return ReplyStyle(thinks=True, opened=tail.rstrip().endswith("<think>"), tools=style)


def check_tools(tokenizer: Any, tools: Sequence[Tool], messages: Sequence[Message]) -> None:
    """Refuse tools, and what tools said, where the chat template has no place for them.

    Raises:
        ToolsUnsupportedError: It has none.
    """
    used = tools or any(each.tool_calls or each.role == "tool" for each in messages)
    if used and not _takes_tools(_template(tokenizer)):
        raise ToolsUnsupportedError(
            "The chat template of this base model has no tools: leave out `tools` and turns of "
            "tools, or serve a base that was trained to call them."
        )


@lru_cache(maxsize=8)
def _tool_style(template: str) -> ToolStyle:
    for sign, style in _SIGNS:
        if sign in template and not any(each in template for each in _OTHER_CALLS):
            return style
    raise ToolsUnsupportedError(
        "The chat template of this base model takes tools, but the model calls them in another way "
        "than Hermes, Qwen, Llama or Mistral, whose calls are known here: leave out `tools`."
    )


def _template(tokenizer: Any) -> str:
    """Return the template that is used with tools; some tokenizers have one of their own for it."""
    return str(tokenizer.get_chat_template(tools=[]))


@lru_cache(maxsize=8)
def _takes_tools(template: str) -> bool:
    try:
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(  # noqa: S701 - no HTML
            template
        )
    except TemplateError:  # transformers knows a tag of its own, {% generation %}
        return "tools" in template
    return "tools" in meta.find_undeclared_variables(parsed)
