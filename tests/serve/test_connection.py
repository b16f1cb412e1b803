"""What comes before a request is whole: heads without an end, and ends without a head."""

from __future__ import annotations

import contextlib
import socket

import pytest

from p2.serve import connection

JSON = b"host: a\r\ncontent-type: application/json\r\n"


def connect(served) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", served.port))
    line.settimeout(20)
    return line


def is_ended(line: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    found = b""
    try:
        while data := line.recv(1 << 16):
            found += data
    except ConnectionError:  # it hung up before it had read everything
        pass
    return found


BODY = b'{"prompt": "a", "max_tokens": 2}'
CHUNKED = b"POST /v1/completions HTTP/1.1\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 400_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 400_000,
        b"GET / HTTP/1.1\r\nhost: " + b"a" * 400_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000,
        CHUNKED + b"1;" + b"a" * 400_000,
        CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\na: " + b"a" * 400_000,
    ],
    ids=["path", "name", "value", "number", "chunk", "trailer"],
)
def test_a_head_without_an_end_is_cut_off(served, head):
    with connect(served) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(head)
        assert b" 200 " not in is_ended(line)
    assert served.client.get("/health").status_code == 200


def test_a_head_that_does_not_come_ends_the_connection(served, monkeypatch):
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.05)
    for part in (b"", b"GET /health HTTP/1.1\r\nhost:"):
        with connect(served) as line:
            line.sendall(part)
            assert is_ended(line) == b""


def test_a_late_head_does_not_cut_off_the_answer_before_it(served, monkeypatch):
    body = b'{"prompt": "a", "max_tokens": 20000, "stream": true}'
    with connect(served) as line:
        monkeypatch.setattr(connection, "STALLED_SECONDS", 0.01)
        asked = b"POST /v1/completions HTTP/1.1\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(body)
        line.sendall(asked + body + b"GET /health HTTP/1.1\r\n")
        assert b"data: [DONE]" in is_ended(line)
