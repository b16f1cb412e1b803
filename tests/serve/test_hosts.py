"""A page that gives its own name the server's address (DNS rebinding) is refused."""

from __future__ import annotations

import pytest

from p2.contract.errors import UsageError
from p2.serve.hosts import is_loopback
from p2.serve.settings import Settings

NAMES = {
    "127.0.0.1:8000": 200,
    "[::1]:8000": 200,
    "10.1.2.3": 200,  # an address is no name that somebody could point elsewhere
    "LocalHost": 200,
    "p2.localhost:1": 200,
    "P2.Example.:8000": 200,
    "page.example": 403,
    "p2.example.page.example": 403,
    "page.p2.example": 403,
    "localhost.page.example:8000": 403,
    "127.0.0.1.page.example": 403,
    "[::1].page.example": 403,
    "2130706433": 403,
    "p2.example@page.example": 403,
}


def test_names(start):
    asked = start(hosts=("p2.example",)).client
    for host, status in NAMES.items():
        for path in ("/", "/v1/models", "/metrics", "/nothing"):
            found = asked.get(path, headers={"host": host})
            wanted = 404 if status == 200 and path == "/nothing" else status
            assert (host, path, found.status_code) == (host, path, wanted)
            if status == 403:
                error = found.json()["error"]
                assert error["code"] == "host_not_allowed"
                assert "--allow-host" in error["message"]
    assert "403" in asked.get("/openapi.json").json()["paths"]["/v1/models"]["get"]["responses"]


@pytest.mark.parametrize("hosts", [(), ("*",), ("p2.example", "*")])
def test_any_name(start, hosts):
    answer = start(hosts=hosts).client.get("/health", headers={"host": "page.example"})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["", "p2.example:80", "http://p2.example", "P2.example", "a b", "*.example"])
def test_what_is_no_name_is_said(host):
    with pytest.raises(UsageError, match="a host is a name"):
        Settings(hosts=(host,))


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1", True),
        ("127.3.4.5", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1%2", False),
    ],
)
def test_where_only_this_machine_reaches_it(address, found):
    assert is_loopback(address) is found
