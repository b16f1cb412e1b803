"""Whatever is sent gets an answer in OpenAI's form, and leaves nothing behind."""

from __future__ import annotations

import json
import socket

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

JSON = {"content-type": "application/json"}


def is_refused(answer, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert {*error} == {"message", "type", "param", "code"}
    return error["message"]


def is_idle(served) -> bool:
    return all(sum(batcher.counts().values()) == 0 for batcher in served.app.batchers.values())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": Infinity}',
        b'{"prompt": "a", "temperature": 1e999}',
        b'{"prompt": "a", "max_tokens": 1' + b"0" * 5000 + b"}",
        b'{"prompt": "a", "max_tokens": -1}',
        b'{"prompt": "a", "max_tokens": 1.5}',
        b'{"prompt": "a", "max_tokens": true}',
        b'{"prompt": "a", "seed": 1e300}',
        b'{"prompt": []}',
        b'{"prompt": ["a", 1]}',
        b'{"prompt": [[]]}',
        b'{"prompt": [-1]}',
        b'{"prompt": {"a": 1}}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt": ' + b"[" * 20000 + b"]" * 20000 + b"}",
        b'{"prompt": "a", "stop": ""}',
        b'{"prompt": "a", "n": 129}',
        b'{"prompt": "a", "top_p": 0}',
        b'{"prompt": "a", "min_p": 1}',
        b'{"prompt": "a", "tau": 0}',
        b'{"prompt": "a", "temperature": -1}',
        b'{"prompt": "a", "temperature": 1e-9}',
        b'{"prompt": "a", "on_unknown": "replace"}',
        b'{"prompt": "a", "stream_options": {}}',
        b'{"prompt": ["a", "b"], "n": 41}',
    ],
    ids=range(32),
)
def test_what_cannot_be_meant_is_refused(served, body):
    assert is_refused(served.client.post("/v1/completions", content=body, headers=JSON))
    assert is_idle(served)


WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.integers(-2, 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "stream",
    "stream_options",
    "echo",
    "logprobs",
    "user",
    "tau",
    "top_k",
    "min_p",
    "greedy",
    "on_unknown",
    "best_of",
    "suffix",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "colour",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(FIELDS), WILD, max_size=4))
def test_any_values_are_answered(served, fields):
    answer = served.client.post("/v1/completions", content=json.dumps(fields), headers=JSON)
    assert answer.status_code in (200, 400, 404)
    if answer.status_code != 200:
        assert is_refused(answer, answer.status_code)


def test_the_document_says_what_is_taken(served):
    """Schemathesis: requests within the document and beside it, and answers as it says."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    api = schemathesis.openapi.from_dict(served.client.get("/openapi.json").json())
    # Which characters a model knows, and which fields exclude each other, is not in the document.
    excluded = [positive_data_acceptance]
    for operation in [one.ok() for one in api.get_all_operations()]:
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and operation.method != "post":
                continue

            @settings(max_examples=15, deadline=None, suppress_health_check=[*HealthCheck], database=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def run(case):
                case.call_and_validate(base_url=served.url, excluded_checks=excluded)

            run()


def test_bodies_of_megabytes_are_refused_before_they_are_read(served):
    with socket.create_connection(("127.0.0.1", served.port)) as line:
        line.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
                     b"content-length: 50000000\r\n\r\n{")  # fmt: skip
        assert line.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    body = (b"x" * 65536 for _ in range(100))
    assert is_refused(served.client.post("/v1/completions", content=body, headers=JSON), 413)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_page_may_send_without_asking_is_refused(served, kind):
    answer = served.client.post("/v1/completions", content=b"{}", headers={"content-type": kind})
    assert is_refused(answer, 415)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/v1/completions", 405), ("DELETE", "/v1/models", 405), ("GET", "/v2", 404),
    ("GET", "/v1/models/x", 404),
])  # fmt: skip
def test_what_is_not_there_is_refused_in_the_same_form(served, method, path, status):
    assert is_refused(served.client.request(method, path), status)
