"""The bench's HTTP client, on bytes as servers send them."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support.streams import Reply, Response, StreamError

EVENTS = (
    b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
    b'{"choices":[{"delta":{"content":"Hel"}}]}',
    '{"choices": [{"delta": {"content": "lö \\"content\\": \\"x\\""}}]}'.encode(),
    b'{"choices":[{"delta":{},"finish_reason":"stop"}]}',
    b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}',
    b"[DONE]",
)


def chunked(*payloads: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Name: a: b\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*payloads, b""))
    return head + body


def fed(data: bytes, cuts: list[int]) -> tuple[Response, list[bytes]]:
    response, events = Response(), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        events += response.feed(data[begin:end])
    return response, events


@given(cuts=st.lists(st.integers(min_value=0, max_value=2000), max_size=20))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    payloads = [b": ping\n\n", *(b"data: %b\n\n" % event for event in EVENTS)]
    response, events = fed(chunked(*payloads), cuts)
    assert events == list(EVENTS)
    assert response.ended
    assert response.status == 200
    assert response.headers["x-name"] == "a: b"


def test_an_event_may_be_cut_by_chunks_and_end_in_carriage_returns() -> None:
    _, events = fed(chunked(b"data: on", b"e\r\n\r\nda", b"ta: two\r\n\r\n"), [])
    assert events == [b"one", b"two"]


def test_a_refusal_has_a_declared_length() -> None:
    body = json.dumps({"error": {"message": "full"}}).encode()
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n"
    response, events = fed(head % len(body) + body, [5, 80])
    assert (response.status, response.headers["retry-after"]) == (429, "3")
    assert (response.ended, response.body, events) == (True, body, [])


def test_only_text_arrives() -> None:
    reply = Reply("model")
    for moment, event in enumerate(EVENTS):
        reply.add(event, float(moment))
    assert reply.arrivals == [1.0, 2.0]
    assert reply.text == 'Hellö "content": "x"'
    assert reply.usage == {"prompt_tokens": 3, "completion_tokens": 2}


def test_an_error_in_the_stream_is_an_error() -> None:
    with pytest.raises(StreamError, match="too slow"):
        Reply("model").add(b'{"error":{"message":"too slow"}}', 0.0)
