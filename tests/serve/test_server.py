"""Limits, turns, keys, clients that leave, and an end that lets texts finish."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from p2.contract.errors import UsageError
from p2.serve.app import create_app
from p2.serve.fairness import Turns
from p2.serve.settings import Settings

from .conftest import run_server

JSON = b"content-type: application/json\r\n"
LONG = {"prompt": "a", "max_tokens": 60000, "seed": 1}


def wait_for(condition, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def counts(running) -> dict[str, int]:
    return running.app.batchers["lstm"].counts()


def request_bytes(fields: dict[str, object]) -> bytes:
    body = json.dumps(fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n".encode()
    return head + JSON + b"\r\n" + body


@contextlib.contextmanager
def occupied(running, n: int = 1) -> Iterator[None]:
    """So many places are taken meanwhile."""
    with connect(running) as line:
        line.sendall(request_bytes(LONG | {"max_tokens": 1 << 29, "n": n}))
        wait_for(lambda: counts(running)["running"] == n)
        yield


def connect(running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port))


def test_a_client_that_goes_away_frees_its_place(start):
    """At every stage: before the request, in its head, in its body, while it waits, in the answer."""
    running = start(max_streams=1, queue=1, max_length=1 << 30)
    whole = request_bytes(LONG | {"stream": True})
    body_starts = whole.index(b"\r\n\r\n") + 6
    for part in (b"", whole[:30], whole[:body_starts], whole):
        with connect(running) as line:
            line.sendall(part)
            if part == whole:
                assert line.recv(1)
    wait_for(lambda: sum(counts(running).values()) == 0)
    with occupied(running):
        with connect(running) as waiting:
            waiting.sendall(whole)
            wait_for(lambda: counts(running)["waiting"] == 1)
        wait_for(lambda: counts(running)["waiting"] == 0)
    wait_for(lambda: sum(counts(running).values()) == 0)
    assert len(running.texts(prompt="a", max_tokens=5)[0]) == 5


def test_a_slow_reader_pauses_and_costs_no_place(start, alone):
    running = start(max_streams=1, queue=4, max_length=3_000_000)
    with connect(running) as slow:
        slow.sendall(request_bytes(LONG | {"stream": True, "max_tokens": 3_000_000, "logprobs": 5}))
        wait_for(lambda: counts(running)["paused"] == 1)
        assert running.texts(prompt="the ", max_tokens=100, seed=3) == [
            alone["lstm"].generate("the ", length=100, seed=3)
        ]
        assert counts(running)["paused"] == 1
    wait_for(lambda: sum(counts(running).values()) == 0)


def test_a_reader_that_was_slow_gets_the_same_text(start, alone):
    running = start(max_streams=2)
    length = 60000
    with connect(running) as slow:
        slow.sendall(
            request_bytes({"prompt": "a", "max_tokens": length, "seed": 1, "stream": True, "logprobs": 1})
        )
        wait_for(lambda: counts(running)["paused"] == 1)
        data = b""
        while b"data: [DONE]" not in data[-64:]:
            data += slow.recv(1 << 20)
    events = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]
    text = "".join(event["choices"][0]["text"] for event in events)
    assert text == alone["lstm"].generate("a", length=length, seed=1)


def test_a_full_queue_says_when_to_come_back(start):
    running = start(max_streams=1, queue=1, max_length=1 << 30)
    with occupied(running), connect(running) as second:
        second.sendall(request_bytes(LONG))
        wait_for(lambda: counts(running)["waiting"] == 1)
        answer = running.ask(**LONG)
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert running.ask(**LONG, n=3).status_code == 400


def test_users_take_turns():
    turns: Turns[str] = Turns()
    for user, items in {"a": "1234", "b": "5", "c": "67"}.items():
        for item in items:
            turns.put(user, item)
    turns.drop("a", "2")
    turns.drop("a", "9")
    assert "".join(turns.take() for _ in range(len(turns))) == "156374"


def test_who_asks_for_much_does_not_keep_the_others_out(start):
    running = start(max_streams=2, queue=100, max_length=1 << 30)
    endless = request_bytes(LONG | {"max_tokens": 1 << 29, "user": "many"})
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(running)) for _ in range(10)]
        with ThreadPoolExecutor(1) as pool, occupied(running, n=2):
            for line in many:
                line.sendall(endless)
            wait_for(lambda: counts(running)["waiting"] == 10)
            one = pool.submit(running.texts, user="one", max_tokens=10)
            wait_for(lambda: counts(running)["waiting"] == 11)
        assert len(one.result()[0]) == 10
        assert counts(running)["waiting"] >= 8  # the others have no end


class AtMost:
    """An engine whose largest batch is 3, as a plan's may be."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name: str):
        return getattr(self._engine, name)

    def _check(self, batch: int) -> None:
        if batch > 3:
            raise UsageError("no profile covers the batch")

    def zero_state(self, batch: int):
        self._check(batch)
        return self._engine.zero_state(batch)

    def restore(self, snapshot):
        self._check(len(next(iter(snapshot.values()))))
        return self._engine.restore(snapshot)


def test_an_engine_is_asked_for_no_batch_that_it_cannot_run(engines, alone):
    app = create_app({"lstm": AtMost(engines()["lstm"].engine)}, Settings(max_streams=100), log=False)
    with run_server(app) as running:
        assert app.batchers["lstm"].places == 2
        wanted = alone["lstm"].texts(["the "], num_samples=9, seed=1, length=300)
        assert running.texts(prompt="the ", n=9, seed=1, max_tokens=300) == [text.text for text in wanted]


def test_keys(start):
    running = start(keys=("first", "second"))
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic first"}, 401),
        ({"authorization": "Bearer first"}, 200),
        ({"authorization": "bearer second"}, 200),
    ):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions")):
            answer = running.client.request(method, path, json={}, headers=headers)
            assert answer.status_code == status
    assert running.client.get("/health").status_code == 200
    assert running.client.get("/").status_code == 200
    assert "securitySchemes" in running.client.get("/openapi.json").json()["components"]


def test_pages_of_named_origins_may_call(start):
    running = start(origins=("https://a.example",))
    ask = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization",
    }
    allowed = running.client.options("/v1/completions", headers={"origin": "https://a.example"} | ask)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    other = running.client.options("/v1/completions", headers={"origin": "https://b.example"} | ask)
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "origin", ["page.example", "https://page.example/", "https://Page.example", "**", "null"]
)
def test_an_origin_that_no_browser_says_is_refused(origin):
    assert Settings(origins=("https://page.example:8443", "http://[::1]:80", "*"))
    with pytest.raises(UsageError, match="an origin is as in"):
        Settings(origins=(origin,))


def test_metrics_count(served):
    before = served.client.get("/metrics").text
    served.texts(prompt="the", max_tokens=50)
    after = served.client.get("/metrics").text

    def value(page: str, name: str) -> float:
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))

    for name, more in (
        ('p2_characters_total{model="lstm"}', 50),
        ('p2_prompt_characters_total{model="lstm"}', 3),
        ('p2_requests_total{path="/v1/completions",status="200"}', 1),
        ('p2_first_character_seconds_count{model="lstm"}', 1),
    ):
        assert value(after, name) - value(before, name) == more
    for name in ("p2_waiting_texts", "p2_running_texts", "p2_batch_occupancy", "p2_chunk_seconds_bucket"):
        assert f"{name}{{" in after


def test_a_thousand_idle_connections(served):
    lines = [connect(served) for _ in range(1000)]
    try:
        assert len(served.texts(prompt="a", max_tokens=50)[0]) == 50
    finally:
        for line in lines:
            line.close()


def command(folder, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "p2.cli", "serve", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"P2_API_KEYS": "k1,k2"},
    )


def test_the_command_serves_logs_refuses_a_taken_port_and_drains(folder):
    """One process of the command, from its first line to its last: each start takes seconds."""
    process = command(folder, "--port", "0", "--threads", "1", "--grace", "20")
    assert process.stderr is not None
    assert "native" in (line := process.stderr.readline()) or "ONNX Runtime" in line
    url = process.stderr.readline().split()[0]
    port = url.rsplit(":", 1)[1]
    client = httpx.Client(base_url=url, headers={"authorization": "Bearer k2"}, timeout=60)
    wait_for(lambda: client.get("/ready").status_code == 200)

    second = command(folder, "--port", port)
    assert second.wait(60) == 1
    assert second.stderr is not None
    (said,) = second.stderr.read().splitlines()
    assert said == f"p2: port {port} of 127.0.0.1 is in use: stop what uses it, or give another --port"

    assert client.get("/v1/models", headers={"authorization": ""}).status_code == 401
    assert client.get("/health", headers={"host": f"page.example:{port}"}).status_code == 403
    answer = client.post("/v1/completions", json={"max_tokens": 3}, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"

    with client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as running:
        pieces = running.iter_text()
        text = next(pieces)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/ready").status_code == 503)
        refused = client.post("/v1/completions", json={"prompt": "a"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        text += "".join(pieces)
    assert text.endswith("data: [DONE]\n\n")
    events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    assert sum(len(event["choices"][0]["text"]) for event in events) == LONG["max_tokens"]
    client.close()
    assert process.wait(30) == 0
    lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    mine = next(line for line in lines if line["request_id"] == "mine")
    assert {"time", "client", "method", "path", "status", "seconds", "model", "characters"} <= {*mine}
    assert (mine["status"], mine["characters"]) == (200, 3)
    for one in (process, second):
        one.stdout.close()
        one.stderr.close()


def test_texts_that_outlast_the_grace_are_ended_and_told(start):
    running = start(max_streams=1)
    found: list[str] = []

    def read() -> None:
        with running.client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
            found.extend(answer.iter_lines())

    reader = threading.Thread(target=read)
    reader.start()
    wait_for(lambda: counts(running)["running"] == 1)
    running.app.end()
    reader.join()
    assert (
        json.loads(found[-4][6:])["error"]["message"] == "the server has ended before the text was finished"
    )
    assert running.client.get("/health").status_code == 503


def test_a_second_signal_ends_what_is_written_and_says_so(start):
    running = start(max_length=1 << 30)

    def signalled() -> None:
        loop = running.server._loop
        loop.call_soon_threadsafe(running.server.handle_exit, signal.SIGTERM, None)

    with running.client.stream(
        "POST", "/v1/completions", json=LONG | {"max_tokens": 1 << 29, "stream": True}
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        signalled()
        wait_for(lambda: not running.app.batchers["lstm"].ready)
        signalled()
        *_, error, _, done, _ = lines
    assert json.loads(error[6:])["error"]["message"] == "the server has ended before the text was finished"
    assert done == "data: [DONE]"
