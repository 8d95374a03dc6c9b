"""Chat templates with tools, in the manner of four families of models, written for tests."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken

HERMES = """\
{%- if tools %}<|im_start|>system
# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
For each call, return a JSON object within <tool_call></tool_call>.<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ m.role }}
{% if m.reasoning_content is defined and loop.last -%}
<think>{{ m.reasoning_content }}</think>{% endif %}
{{- m.content.split('</think>')[-1] }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

THINKING = HERMES.removesuffix("{% endif %}") + "<think>\n{% endif %}"

LLAMA = """\
{%- if tools %}<|start_header_id|>system<|end_header_id|>

Respond in the format {"name": function name, "parameters": dictionary of argument name and its \
value}.
{% for tool in tools %}{{ tool | tojson(indent=4) }}
{% endfor %}<|eot_id|>{% endif %}
{%- for m in messages %}
{%- if m.tool_calls is defined %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('One tool call at a time.') }}{% endif %}
{%- set call = m.tool_calls[0].function %}<|start_header_id|>assistant<|end_header_id|>

{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot_id|>
{%- elif m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>

{{ m.content | tojson }}<|eot_id|>
{%- else %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>
{%- endif %}{% endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

MISTRAL = """\
{%- if tools is defined and tools -%}
[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}[INST] {{ m.content }}[/INST]
{%- elif m.tool_calls is defined %}[TOOL_CALLS] [
{%- for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('Tool call IDs have nine signs.') }}{% endif %}
{{- call.function | tojson }}{% if not loop.last %}, {% endif %}
{%- endfor %}]</s>
{%- elif m.role == 'tool' %}[TOOL_RESULTS] {"content": {{ m.content | tojson }}, "call_id": "{{ \
m.tool_call_id }}"}[/TOOL_RESULTS]
{%- else %} {{ m.content }}</s>
{%- endif %}{% endfor %}"""

CONTROL = {
    "hermes": ("<|im_start|>", "<|im_end|>"),
    "llama": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"),
    "mistral": (
        *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[INST]", "[/INST]", "[TOOL_CALLS]"),
        *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "</s>"),
    ),
}
TEMPLATES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL}


def make_family(tokenizer: Any, family: str) -> Any:
    """Give a tokenizer a family's template and control tokens."""
    known = tokenizer.get_vocab()
    added = [AddedToken(each, special=True) for each in CONTROL[family] if each not in known]
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.chat_template = TEMPLATES[family]
    return tokenizer
