"""What each client library does with a server; runs where the libraries are, and nothing of ours.

    python calls.py URL

It prints one line of JSON for each call: client, feature, whether it worked, and what was said.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL, KEY = "policy", "no-key"
HI = [{"role": "user", "content": "Hi!"}]
QUESTION = "Describe Ann, who is 31 years old, as JSON with her name and age."
ASKED = [{"role": "user", "content": QUESTION}]


class Described(BaseModel):
    """A person, as a schema; a name without an end would be cut."""

    name: Annotated[str, Field(max_length=20)]
    age: int


def openai_calls(url: str) -> dict[str, Callable[[], Any]]:
    """OpenAI's own library."""
    import openai

    client = openai.OpenAI(base_url=url, api_key=KEY)
    create = client.chat.completions.create
    schema = {"name": "person", "schema": Described.model_json_schema(), "strict": True}
    form: Any = {"type": "json_schema", "json_schema": schema}
    tool: Any = openai.pydantic_function_tool(Described)
    return {
        "chat": lambda: create(model=MODEL, messages=HI, max_tokens=8).choices[0].message.content,
        "stream": lambda: "".join(
            chunk.choices[0].delta.content or ""
            for chunk in create(model=MODEL, messages=HI, max_tokens=8, stream=True)
        ),
        "structured": lambda: Described.model_validate_json(
            create(model=MODEL, messages=ASKED, max_tokens=80, response_format=form)
            .choices[0]
            .message.content
        ),
        "tools": lambda: create(model=MODEL, messages=ASKED, max_tokens=60, tools=[tool]),
        "text": lambda: (
            client.completions.create(model=MODEL, prompt="Once", max_tokens=8).choices[0].text
        ),
        "models": lambda: [each.id for each in client.models.list()],
    }


def langchain_calls(url: str) -> dict[str, Callable[[], Any]]:
    """LangChain."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=url, model=MODEL, max_tokens=80, api_key=KEY)
    return {
        "chat": lambda: model.invoke("Hi!").content,
        "stream": lambda: "".join(chunk.content for chunk in model.stream("Hi!")),
        "structured": lambda: model.with_structured_output(Described, method="json_schema").invoke(
            QUESTION
        ),
        "tools": lambda: model.bind_tools([Described]).invoke(QUESTION),
    }


def llama_index_calls(url: str) -> dict[str, Callable[[], Any]]:
    """LlamaIndex, which asks for texts unless it is told that the model chats."""
    from llama_index.llms.openai_like import OpenAILike

    options: dict[str, Any] = {"model": MODEL, "api_base": url, "api_key": KEY, "max_tokens": 20}
    chat, text = OpenAILike(**options, is_chat_model=True), OpenAILike(**options)
    return {
        "chat": lambda: chat.complete("Hi!").text,
        "text": lambda: text.complete("Once upon a time").text,
        "stream": lambda: list(text.stream_complete("Once upon a time"))[-1].text,
    }


def litellm_calls(url: str) -> dict[str, Callable[[], Any]]:
    """LiteLLM."""
    import litellm

    options: dict[str, Any] = {"api_base": url, "api_key": KEY, "max_tokens": 8}
    chat, text = f"openai/{MODEL}", f"text-completion-openai/{MODEL}"
    return {
        "chat": lambda: (
            litellm.completion(model=chat, messages=HI, **options).choices[0].message.content
        ),
        "stream": lambda: "".join(
            chunk.choices[0].delta.content or ""
            for chunk in litellm.completion(model=chat, messages=HI, stream=True, **options)
        ),
        "text": lambda: (
            litellm.text_completion(model=text, prompt="Once", **options).choices[0].text
        ),
    }


def instructor_calls(url: str) -> dict[str, Callable[[], Any]]:
    """Instructor, by schema and by tools."""
    import instructor
    import openai

    def ask(mode: Any) -> Any:
        client = instructor.from_openai(openai.OpenAI(base_url=url, api_key=KEY), mode=mode)
        return client.chat.completions.create(
            model=MODEL, messages=ASKED, response_model=Described, max_tokens=80, max_retries=1
        )

    return {
        "structured": lambda: ask(instructor.Mode.JSON_SCHEMA),
        "tools": lambda: ask(instructor.Mode.TOOLS),
    }


def pydantic_ai_calls(url: str) -> dict[str, Callable[[], Any]]:
    """Pydantic AI."""
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key=KEY))
    settings: Any = {"max_tokens": 80}
    return {
        "chat": lambda: Agent(model, model_settings=settings).run_sync("Hi!").output,
        "structured": lambda: (
            Agent(model, output_type=NativeOutput(Described), model_settings=settings)
            .run_sync(QUESTION)
            .output
        ),
        "tools": lambda: (
            Agent(model, output_type=Described, model_settings=settings).run_sync(QUESTION).output
        ),
    }


CLIENTS = {
    "openai": openai_calls,
    "langchain": langchain_calls,
    "llama-index": llama_index_calls,
    "litellm": litellm_calls,
    "instructor": instructor_calls,
    "pydantic-ai": pydantic_ai_calls,
}


def main(url: str) -> None:
    """Make all calls, and print what became of each."""
    os.environ["OPENAI_API_KEY"] = KEY
    for client, calls_of in CLIENTS.items():
        for feature, call in calls_of(url).items():
            try:
                worked, said = True, str(call())
            except Exception as error:
                worked, said = False, f"{type(error).__name__}: {error}"
            found = {"client": client, "feature": feature, "worked": worked, "said": said[:2000]}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
