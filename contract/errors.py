"""Answers to bad input: one sentence for the person, and the exit code that goes with it."""

from __future__ import annotations


class P2Error(Exception):
    """Something failed that the person can act on; the message is one sentence. Exit code 1."""

    exit_code = 1


class UsageError(P2Error):
    """The command was called with values that cannot be meant. Exit code 2."""

    exit_code = 2


class ContractError(P2Error):
    """A file does not keep the step contract, or is damaged. Exit code 1."""


class BackendMissing(P2Error):
    """A library or a device that the engine needs is not here. Exit code 1."""


class BuilderRefused(P2Error):
    """An engine builder does not take the graph. Exit code 1."""


class ToleranceExceeded(P2Error):
    """Two backends that must agree do not. Exit code 1."""
