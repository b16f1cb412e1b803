"""Which contenders there are: the built-in ones by their key, anybody else's as ``module:Name``.

A plug-in is a class without arguments, or an object, that implements `contender.Contender` in a
module that Python can import (installed, or on PYTHONPATH):

    p2 bench --contenders p2-float32,my_package.engines:MyEngine
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..contract.errors import UsageError
from .contender import Contender
from .contenders import registry

_ATTRIBUTES = ("key", "title", "precision", "group", "device", "missing", "load")


@dataclass(frozen=True)
class Entrant:
    """A contender, and the address that a new process finds it by."""

    address: str
    contender: Contender


def find(address: str) -> Contender:
    """The contender of a key or a ``module:Name``.

    Raises:
        UsageError: there is none.
    """
    if ":" in address:
        return _plug_in(address)
    known = {one.key: one for one in (*registry.contenders(), *registry.on_request())}
    if address not in known:
        raise UsageError(
            f"unknown contender {address!r}: choose from {', '.join(known)},"
            " or name a plug-in as module:Class"
        )
    return known[address]


def choose(addresses: Sequence[str] | None, precisions: Sequence[str] | None) -> list[Entrant]:
    """Those that take part: the ones named (None: every built-in one), of these precisions.

    p2's float32 always takes part, and comes first: it is what the others are compared with.

    Raises:
        UsageError: an address means nothing.
    """
    built_in = [Entrant(contender.key, contender) for contender in registry.contenders()]
    chosen = built_in if addresses is None else [Entrant(address, find(address)) for address in addresses]
    if precisions is not None:
        chosen = [entrant for entrant in chosen if entrant.contender.precision in precisions]
    reference = [entrant for entrant in built_in if is_reference(entrant.contender)]
    return reference + [entrant for entrant in chosen if not is_reference(entrant.contender)]


def is_reference(contender: Contender) -> bool:
    """Whether this is p2's own float32 on the processor."""
    return (contender.group, contender.precision, contender.device) == ("p2", "float32", "cpu")


def _plug_in(address: str) -> Contender:
    module, _, name = address.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"the contender {address} cannot be imported: {error}") from error
    made = found() if isinstance(found, type) else found
    lacking = [attribute for attribute in _ATTRIBUTES if not hasattr(made, attribute)]
    if lacking:
        raise UsageError(f"{address} is no contender: it has no {', '.join(lacking)}")
    contender: Contender = made
    return contender
