from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.service.application import ListeningApp, Until

    StartServer = Callable[..., subprocess.Popen[str]]


CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
URL = "/v1/chat/completions"
ROOT = Path(__file__).parents[3]
V1 = "v000001-000000000001"

PROGRAM = """
import sys
from tests.support.generators.fake import FakeGenerator
from models.errors import BaseModelError
from service.errors import ServiceError
from service.app.server import serve
from service.settings import ServiceSettings
generator = FakeGenerator(step_seconds=0.1)
if "broken" in sys.argv:
    generator.start_error = BaseModelError("The base model is missing.")
try:
    serve(ServiceSettings(), generator)
except (ServiceError, BaseModelError) as error:
    print(error)
    sys.exit(1)
"""


@pytest.fixture
def client(listening: ListeningApp) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{listening.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_chats(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(**CHAT, user="ann", seed=1, max_completion_tokens=50)
    assert reply.choices[0].message.content == "I am base"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.system_fingerprint == "base"
    assert reply.usage.total_tokens == 12
    assert reply.recorded is True


def test_openais_client_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        **CHAT, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "I am base"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 10


def test_openais_client_puts_a_stream_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**CHAT, logprobs=True, n=2) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["I am base"] * 2
    assert len(final.choices[0].logprobs.content) == 10


def test_openais_client_lists_models_and_pins_one(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["policy", "base"]
    assert client.models.retrieve("policy").owned_by == "thumbloop"
    reply = client.chat.completions.create(**CHAT | {"model": f"policy@{V1}"})
    assert reply.system_fingerprint == V1


def test_openais_client_reads_and_deletes_a_completion(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(**CHAT)
    assert client.chat.completions.retrieve(reply.id).choices[0].message.content == "I am base"
    assert client.chat.completions.delete(reply.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(reply.id)


def test_openais_client_understands_the_errors(
    client: openai.OpenAI, listening: ListeningApp
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**CHAT | {"model": "gpt-5"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(
            **CHAT | {"messages": [{"role": "user", "content": "x" * 300}]}
        )
    assert long.value.code == "context_length_exceeded"
    listening.generator.max_running = 0
    with pytest.raises(openai.RateLimitError) as full:
        client.chat.completions.create(**CHAT, stream=True)
    assert full.value.code == "queue_full"
    listening.generator.max_running = 10
    listening.generator.fail_after = 2
    with pytest.raises(openai.APIError, match="The engine broke"):
        list(client.chat.completions.create(**CHAT, stream=True))


def test_the_record_is_there_before_the_end_of_a_stream(listening: ListeningApp) -> None:
    with httpx.stream("POST", f"{listening.url}{URL}", json=CHAT | {"stream": True}) as answer:
        for line in answer.iter_lines():
            if '"finish_reason":"stop"' in line:
                reply_id = json.loads(line.removeprefix("data: "))["id"]
                vote = httpx.put(f"{listening.url}/v1/feedback/{reply_id}", json={"thumb": "up"})
                assert vote.status_code == 200
                return
    pytest.fail("The stream had no end.")


def test_a_silent_stream_is_kept_alive(listening: ListeningApp) -> None:
    listening.generator.held.clear()
    with httpx.stream("POST", f"{listening.url}{URL}", json=CHAT | {"stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith(": ping"):
                break
    listening.generator.held.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_the_decoding(
    listening: ListeningApp, until: Until, stream: bool
) -> None:
    listening.generator.step_seconds = 0.02
    listening.generator.texts["base"] = "x" * 150
    host, port = listening.url.removeprefix("http://").split(":")
    body = json.dumps(CHAT | {"stream": stream}).encode()
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: listening.generator.tokens >= 3)
    until(lambda: listening.generator.running == 0, seconds=1.0)
    assert listening.generator.tokens < 100
    (reply_id,) = listening.generator.cancelled
    # Only of a stream has anybody read a part.
    url = f"{listening.url}{URL}/{reply_id}"
    until(lambda: httpx.get(url).is_success == stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_while_it_waits_is_forgotten(
    listening: ListeningApp, until: Until, stream: bool
) -> None:
    listening.generator.held.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{listening.url}{URL}", json=CHAT | {"n": 3, "stream": stream}, timeout=0.2)
    # Well before the stream would have opened.
    until(lambda: listening.generator.running == 0, seconds=0.6)
    assert len(listening.generator.cancelled) == 3
    listening.generator.held.set()


@pytest.fixture
def start(tmp_path: Path, empty_redis_url: str) -> Iterator[StartServer]:
    """Start the server as a process of its own."""
    processes = []

    def run(*arguments: str, **settings: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=os.environ
            | {"THUMBLOOP_DATA_DIR": str(tmp_path), "THUMBLOOP_REDIS_URL": empty_redis_url}
            | {f"THUMBLOOP_{name.upper()}": str(value) for name, value in settings.items()},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def test_sigterm_lets_replies_end_and_exits_well(
    start: StartServer, free_port: int, until: Until
) -> None:
    process = start(port=free_port, drain_delay=0.5)
    url = f"http://127.0.0.1:{free_port}"
    until(lambda: ready(url))
    with httpx.stream("POST", f"{url}{URL}", json=CHAT | {"stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        until(lambda: not ready(url), seconds=1.0)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert process.wait(5) == 0
    _, log = process.communicate()
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_a_reply_that_takes_too_long_does_not_keep_the_server(
    start: StartServer, free_port: int, until: Until
) -> None:
    process = start(port=free_port, drain_timeout=0.2)
    url = f"http://127.0.0.1:{free_port}"
    until(lambda: ready(url))
    with httpx.stream("POST", f"{url}{URL}", json=CHAT | {"stream": True}) as answer:
        next(answer.iter_lines())
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - stopped_at < 3


def test_ctrl_c_ends_it_well_too(start: StartServer, free_port: int, until: Until) -> None:
    process = start(port=free_port)
    until(lambda: ready(f"http://127.0.0.1:{free_port}"))
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0


def test_a_port_in_use_is_one_clear_line(start: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(port=port)
        said, log = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.startswith(f"Port {port} on 127.0.0.1 cannot be used")
    assert log == ""


def test_without_a_key_it_listens_to_no_other_machine(start: StartServer, free_port: int) -> None:
    process = start(port=free_port, host="0.0.0.0")
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "no API key exists" in said


def test_a_base_model_that_cannot_be_loaded_ends_it(start: StartServer, free_port: int) -> None:
    process = start("broken", port=free_port)
    said, log = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said == "The base model is missing.\n"
    assert "Traceback" not in log
