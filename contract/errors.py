"""Answers to bad input: one sentence for the person, and the exit code that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class P2Error(Exception):
    """Something failed that the person can act on; the message is one sentence. Exit code 1."""

    exit_code = 1


class UsageError(P2Error):
    """The command was called with values that cannot be meant. Exit code 2."""

    exit_code = 2


class ContractError(P2Error):
    """A file does not keep the step contract, or is damaged. Exit code 1."""


class NotFinite(P2Error):
    """A model computes NaN or infinity for some texts of a batch, which have no more characters. Exit code 1.

    The others of the batch are as they would be without them.

    Args:
        message: the sentence.
        rows: which texts.
        result: what the call would have returned; of no meaning in those rows.
    """

    def __init__(self, message: str, rows: Sequence[int], result: Any = None) -> None:
        super().__init__(message)
        self.rows = tuple(rows)
        self.result = result


class BackendMissing(P2Error):
    """A library or a device that the engine needs is not here. Exit code 1."""


class BuilderRefused(P2Error):
    """An engine builder does not take the graph. Exit code 1."""


class ToleranceExceeded(P2Error):
    """Two backends that must agree do not. Exit code 1."""
