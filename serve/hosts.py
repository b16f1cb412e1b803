"""Under which names a server is asked.

A page of anywhere may give its own name the address of the user's machine (DNS rebinding): browsers then take
a server there for the page's own, and let it read. What they send as ``Host`` is still the page's name.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from ..contract.schema import shown
from .answers import refusal
from .errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(?:\[([^]]+)\]|([^:[\]]*))(?::\d*)?")


class Hosts:
    """Answers requests to addresses, to localhost, and to some names; refuses others with 403.

    Args:
        app: what answers.
        names: lower case, without port.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        app = self._app
        if scope["type"] == "http" and not self._knows(name := _name(Headers(scope=scope).get("host", ""))):
            said = f"this server does not answer to {shown(name)}: see p2 serve --allow-host"
            app = refusal(ApiError(403, said, code="host_not_allowed"))
        await app(scope, receive, send)

    def _knows(self, name: str) -> bool:
        return not name or _is_local(name) or name in self._names


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _name(host: str) -> str:
    """The ``Host`` of a request without its port; all of it where it has another form."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2] if found else host).lower().rstrip(".")


def _is_local(name: str) -> bool:
    """An address, which no page can have for a name, or localhost, which browsers ask nobody about."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True
