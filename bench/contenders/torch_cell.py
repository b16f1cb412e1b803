"""PyTorch used well: the cell written out over folded weights, as it is and under torch.compile.

nn.LSTM and its sisters prepare their weights anew at every call on the processor, which for a single
step of a large model costs more than its arithmetic. A person who knows that writes the step by hand.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.codec import Tokens
from ..contender import Model
from .availability import no_torch
from .torch_modules import use_threads

if TYPE_CHECKING:
    from torch import Tensor

    from ...export.step import Advance
    from ...trainer.cells import States

    # (token, noise [batch, vocab], states) -> (chosen token, logits, new states)
    Turn = Callable[[Tensor, Tensor, States], tuple[Tensor, Tensor, States]]

NOISE_NUMBERS = 1 << 20  # noise held at a time

COMPILED_BATCHES = 64  # batch sizes for which PyTorch may keep a compiled step


class TorchCell:
    """The folded step, eager: one matrix product per layer, activations in place."""

    key = "torch-cell"
    title = "functional cell, eager PyTorch"
    precision = "float32"
    group = "peer"
    device = "cpu"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_torch()

    def load(self, model: Model, threads: int | None) -> CellRunning:
        """See `Contender.load`.

        Raises:
            P2Error: the checkpoint cannot be read.
        """
        threads = use_threads(threads)
        advance = folded_cell(model)
        return CellRunning(model.card, threads, advance, choosing(advance))


class TorchCompile:
    """The same step under torch.compile, in its default mode, for fixed shapes.

    The choice is inside: what runs between two compiled calls is Python, which costs more than adding
    a row of noise. The loop is not: PyTorch would unroll it, and compile every turn of it anew.
    """

    key = "torch-compile"
    title = "functional cell, torch.compile"
    precision = "float32"
    group = "peer"
    device = "cpu"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_torch() or _no_compiler()

    def load(self, model: Model, threads: int | None) -> CompiledRunning:
        """See `Contender.load`. Compiles for one text, which is the warm-up.

        Raises:
            P2Error: the checkpoint cannot be read.
        """
        import torch
        import torch._dynamo

        # Beyond its limit PyTorch would run the rest of the batch sizes eagerly without a word.
        torch._dynamo.config.recompile_limit = COMPILED_BATCHES
        threads = use_threads(threads)
        turn = torch.compile(choosing(folded_cell(model)), dynamic=False)
        return CompiledRunning(model.card, threads, turn)


def _no_compiler() -> str | None:
    """A sentence if torch.compile lacks what it needs to make code for the processor."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, and {compiler} is not installed"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "torch.compile needs Python's C headers (Python.h), which are not installed"
    return None


def folded_cell(model: Model, device: str = "cpu") -> Advance:
    """The step of a checkpoint over folded weights on a device.

    Raises:
        P2Error: the checkpoint cannot be read.
    """
    # PyTorch first, as in `torch_modules`.
    import torch

    from ...export.fold import fold
    from ...export.step import step_of
    from ...trainer import checkpoint
    from .in_place import InPlace

    found = checkpoint.load(model.checkpoint)
    where = torch.device(device)
    weights = {name: tensor.to(where) for name, tensor in fold(found.card, found.model_state).items()}
    return step_of(found.card, weights, InPlace)


def choosing(advance: Advance) -> Turn:
    """The step and the choice after it: argmax(logits + noise)."""

    def turn(token: Tensor, noise: Tensor, states: States) -> tuple[Tensor, Tensor, States]:
        logits, states = advance(token, states)
        return (logits + noise).argmax(dim=1), logits, states

    return turn


class CellRunning:
    """`contender.Running` over a functional step on the processor.

    Args:
        card: the model.
        threads: processor threads that PyTorch uses.
        advance: the step.
        turn: the step with the choice.
    """

    def __init__(self, card: Card, threads: int, advance: Advance, turn: Turn) -> None:
        import torch

        self.card = card
        self.threads = threads
        self._advance = advance
        self._turn = turn
        self._generator = torch.Generator()
        CellRunning.start(self, 1, 0)

    def start(self, batch: int, seed: int) -> None:
        """See `Running.start`."""
        import torch

        self._generator.manual_seed(seed)
        with torch.inference_mode():
            self._token = torch.randint(self.card.vocab, (batch,), generator=self._generator)
            self._states = self._zeros(batch)

    def write(self, count: int) -> Tokens:
        """See `Running.write`. Gumbel noise is -log of an exponential variate, drawn in blocks."""
        import torch

        batch, vocab = len(self._token), self.card.vocab
        block = max(1, NOISE_NUMBERS // (batch * vocab))
        pieces = []
        with torch.inference_mode():
            for begin in range(0, count, block):
                noise = torch.empty(min(block, count - begin), batch, vocab)
                noise.exponential_(generator=self._generator).log_().neg_()
                tokens, self._states = self._run(self._token, noise, self._states)
                self._token = tokens[-1]
                pieces += tokens
            return _columns(pieces, batch)

    def follow(self, first: Tokens, noise: npt.NDArray[np.float32]) -> Tokens:
        """See `Running.follow`."""
        import torch

        with torch.inference_mode():
            token, rows = torch.tensor(first), torch.tensor(noise)
            tokens, _ = self._run(token, rows, self._zeros(len(first)))
            return _columns(tokens, len(first))

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`."""
        import torch

        with torch.inference_mode():
            states = self._zeros(len(tokens))
            for token in torch.tensor(tokens.T):
                _, states = self._advance(token, states)

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """See `Running.logits`."""
        import torch

        predicted = np.empty((*tokens.shape, self.card.vocab), np.float32)
        with torch.inference_mode():
            states = self._zeros(len(tokens))
            for position, token in enumerate(torch.tensor(tokens.T)):
                logits, states = self._advance(token, states)
                predicted[:, position] = logits.numpy()
        return predicted

    def close(self) -> None:
        """See `Running.close`."""
        del self._advance, self._turn, self._states

    def _run(self, token: Tensor, noise: Tensor, states: States) -> tuple[list[Tensor], States]:
        turn, tokens = self._turn, []
        for row in noise:
            token, _, states = turn(token, row, states)
            tokens.append(token)
        return tokens, states

    def _zeros(self, batch: int) -> States:
        import torch

        return tuple(torch.zeros(batch, self.card.hidden) for _ in self.card.state_names)


class CompiledRunning(CellRunning):
    """`CellRunning` whose step is compiled for each batch size when a text of that size starts.

    Args:
        card: the model.
        threads: processor threads that PyTorch uses.
        turn: the compiled step with the choice.
    """

    def __init__(self, card: Card, threads: int, turn: Turn) -> None:
        import torch

        def advance(token: Tensor, states: States) -> tuple[Tensor, States]:
            # One compiled function serves all; what it chooses here, nobody looks at.
            _, logits, states = turn(token, torch.zeros(len(token), card.vocab), states)
            return logits, states

        super().__init__(card, threads, advance, turn)
        self._compiled: set[int] = set()
        self.start(1, 0)

    def start(self, batch: int, seed: int) -> None:
        """See `Running.start`."""
        super().start(batch, seed)
        if batch not in self._compiled:
            self._compiled.add(batch)
            self.write(2)
            super().start(batch, seed)


def _columns(tokens: list[Tensor], batch: int) -> Tokens:
    """Tensors ``[batch]`` side by side, int64 ``[batch, count]``."""
    import torch

    if not tokens:
        return np.zeros((batch, 0), np.int64)
    return torch.stack(tokens, dim=1).numpy()
