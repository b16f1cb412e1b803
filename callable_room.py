"""Two rooms share their name with a function of the API: `p2.export` and `p2.parity` are both.

A room's module is made callable, so that ``p2.export("artifacts/charlm")`` runs `api.export` and
``p2.export.exporter`` is still its module, whichever was asked for first.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    """A package that calls the function of the API that has its name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from . import api

        return getattr(api, self.__name__.rpartition(".")[2])(*args, **options)


def make_callable(name: str) -> None:
    """Turn an imported package, by its full name, into the function of the API as well."""
    sys.modules[name].__class__ = _CallableRoom
