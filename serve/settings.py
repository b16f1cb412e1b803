"""What a server is told when it starts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..contract.arguments import whole_number
from ..contract.errors import UsageError

# What browsers say: a scheme and a host in small letters, perhaps a port, and nothing behind.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\sA-Z]+")
_HOST = re.compile(r"\*|[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(frozen=True)
class Settings:
    """Limits and keys.

    Attributes:
        max_streams: texts that are written side by side, of each model.
        queue: texts that may wait beside them, of each model; one more is refused (429).
        max_prompt: characters of a prompt.
        max_length: characters to be written for a prompt.
        grace: seconds in which texts that are under way may finish when the server is to end.
        keys: who calls must bear one of these; none lets everybody in.
        origins: of pages that browsers may call from; ``*`` is any.
        hosts: names that the server answers to, beside addresses and localhost; none or ``*`` is any.

    Raises:
        UsageError: a value is out of range.
    """

    max_streams: int = 256
    queue: int = 1024
    max_prompt: int = 1 << 16
    max_length: int = 1 << 16
    grace: float = 30.0
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole_number(self.max_streams, "max-streams", 1, 1 << 14)
        whole_number(self.queue, "queue", 0, 1 << 20)
        whole_number(self.max_prompt, "max-prompt", 1, 1 << 24)
        whole_number(self.max_length, "max-length", 1, 1 << 30)
        if not 0 <= self.grace <= 86400:
            raise UsageError(f"grace must be 0 to 86400 seconds, not {self.grace:g}")
        if not all(key and key.isascii() and key.isprintable() and key.strip() == key for key in self.keys):
            raise UsageError("an API key must be printable ASCII without spaces around it, and not empty")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"an origin is as in https://page.example or *, not {origin!r}")
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise UsageError(f"a host is a name as in p2.example, in small letters, or *, not {host!r}")

    @property
    def names(self) -> frozenset[str]:
        """Those of `hosts`; none where any will do."""
        return frozenset() if "*" in self.hosts else frozenset(self.hosts)
