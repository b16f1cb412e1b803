"""How fast a device trains one shape: p2's update, loops by hand, with a CUDA graph, and the layers alone.

What would be gained by a graph, by torch.compile, or by all that is not the layers, is read from one table.
Rates count the products with weights alone: two operations a weight on the way forward, four on the way back.
"""

from __future__ import annotations

import gc
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.card import Card
from ..contract.codec import Codec
from .models import random_state
from .training import hand_written

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..trainer.options import TrainOptions

WARM_UPDATES = 5  # cuDNN and torch.compile choose their kernels in the first ones
OPERATIONS = 6  # of a weight and a character, forward and back

_CHARACTERS = 1 << 18  # of the text, which decides nothing

Update = Callable[[int], object]


@dataclass(frozen=True)
class Shape:
    """What is trained.

    Attributes:
        card: the model, an LSTM.
        options: with batch, window and a settled precision.
        device: where.
    """

    card: Card
    options: TrainOptions
    device: torch.device

    def text(self) -> str:
        """Random characters of the vocabulary."""
        drawn = np.random.default_rng(0).integers(0, self.card.vocab, _CHARACTERS)
        return "".join(self.card.vocabulary[token] for token in drawn)

    def products(self, *, output: bool = True) -> int:
        """Weights that every character is multiplied by."""
        card = self.card
        wide = card.gates * card.hidden
        inputs = card.embedding + (card.layers - 1) * card.hidden
        return wide * (inputs + card.layers * card.hidden) + output * card.vocab * card.hidden


class ByHand:
    """A loop by somebody who knows GPUs: text and Adam's steps on the device, no figure ever read."""

    def __init__(self, shape: Shape, *, compiled: bool = False) -> None:
        import torch
        from torch import nn

        card, self._options, device = shape.card, shape.options, shape.device
        self._device = device
        self._tokens = torch.from_numpy(Codec(card.vocabulary).encode(shape.text())).to(device)
        self._embedding = nn.Embedding(card.vocab, card.embedding, device=device)
        self._rnn = nn.LSTM(card.embedding, card.hidden, card.layers, batch_first=True, device=device)
        self._output = nn.Linear(card.hidden, card.vocab, device=device)
        self._parameters = [
            parameter
            for module in (self._embedding, self._rnn, self._output)
            for parameter in module.parameters()
        ]
        graphs = device.type == "cuda"
        self._optimiser = torch.optim.Adam(self._parameters, lr=1e-3, fused=True, capturable=graphs)
        self._positions = torch.arange(self._options.seq_len + 1, device=device)
        self._loss = torch.compile(self._loss_of) if compiled else self._loss_of
        self._windows = self._drawn()

    def draw(self) -> None:
        """Other windows, where the former ones are: a graph reads them there."""
        self._windows.copy_(self._drawn())

    def _drawn(self) -> Tensor:
        import torch

        most = len(self._tokens) - len(self._positions)
        starts = torch.randint(most, (self._options.batch_size, 1), device=self._device)
        return self._tokens[starts + self._positions]

    def step(self) -> None:
        """The update by those windows."""
        from torch import nn

        self._optimiser.zero_grad()
        self._loss(self._windows).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, self._options.clip or math.inf)
        self._optimiser.step()

    def update(self, _: int) -> None:
        """Both."""
        self.draw()
        self.step()

    def _loss_of(self, windows: Tensor) -> Tensor:
        from torch.nn import functional as F

        from ..trainer.device import mixed

        # A graph must not use casts of weights that were kept from outside of it.
        with mixed(self._device, self._options.precision, cache=False):
            logits = self._output(self._rnn(self._embedding(windows[:, :-1]))[0])
        return F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


def p2_update(shape: Shape) -> Update:
    """p2's own, as `p2 train` runs it."""
    learner = _learner(shape)

    def update(step: int) -> None:
        learner.enqueue(step)
        learner.figures(everything=False)

    return update


def p2_at_once(shape: Shape) -> Update:
    """p2's own, each update's figures read before the next begins."""
    return _learner(shape).update  # type: ignore[no-any-return]


def captured(shape: Shape) -> Update:
    """The loop by hand with its whole update in a CUDA graph."""
    import torch

    loop = ByHand(shape)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPDATES):
            loop.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loop.step()

    def update(_: int) -> None:
        loop.draw()
        graph.replay()

    return update


def layers_alone(shape: Shape) -> Update:
    """The recurrent layers forward and back, weights as short as the products: the device's own rate."""
    import torch
    from torch import nn

    from ..trainer.device import dtype_of

    card, options = shape.card, shape.options
    dtype = dtype_of(options.precision)
    rnn = nn.LSTM(
        card.embedding, card.hidden, card.layers, batch_first=True, device=shape.device, dtype=dtype
    )
    size = (options.batch_size, options.seq_len)
    x = torch.randn(*size, card.embedding, device=shape.device, dtype=dtype, requires_grad=True)
    back = torch.randn(*size, card.hidden, device=shape.device, dtype=dtype)

    def update(_: int) -> None:
        rnn.zero_grad()
        rnn(x)[0].backward(back)

    return update


@dataclass(frozen=True)
class Loop:
    """A contender.

    Attributes:
        title: for people.
        make: prepares it.
        device: where it can run alone; empty is everywhere.
        output: whether it computes logits.
    """

    title: str
    make: Callable[[Shape], Update]
    device: str = ""
    output: bool = True


P2 = "p2"
LOOPS = (
    Loop(P2, p2_update),
    Loop("p2, figures read at once", p2_at_once),
    Loop("by hand, as in a tutorial", lambda s: hand_written(s.card, s.options, s.text(), s.device)),
    Loop("by hand, nothing waits", lambda shape: ByHand(shape).update),
    Loop("the same, torch.compile", lambda shape: ByHand(shape, compiled=True).update, "cuda"),
    Loop("the same, a CUDA graph", captured, "cuda"),
    Loop("the layers alone", layers_alone, output=False),
)


def measure(shape: Shape, rounds: int, updates: int) -> list[dict[str, Any]]:
    """Every loop in turn; one that fails says why.

    Args:
        shape: what is trained, and where.
        rounds: whose median counts.
        updates: in a round.

    Returns:
        For each loop ``title``, ``seconds_per_update``, ``characters_per_second``, ``tflops`` (1e12
        operations a second) and ``problem``; either the figures or the problem are None.
    """
    found = []
    for loop in LOOPS:
        if loop.device not in ("", shape.device.type):
            continue
        row: dict[str, Any] = dict.fromkeys(
            ("seconds_per_update", "characters_per_second", "tflops", "problem")
        )
        try:
            seconds = _timed(loop.make(shape), shape.device, rounds, updates)
        except Exception as error:  # of a compiler, a capture, or for want of memory
            lines = str(error).strip().splitlines() or [type(error).__name__]
            row["problem"] = lines[0][:200]
        else:
            speed = shape.options.batch_size * shape.options.seq_len / seconds
            row["seconds_per_update"], row["characters_per_second"] = seconds, speed
            row["tflops"] = OPERATIONS * shape.products(output=loop.output) * speed / 1e12
        found.append({"title": loop.title, **row})
        _forget(shape.device)
    return found


def _timed(update: Update, device: torch.device, rounds: int, updates: int) -> float:
    """Seconds an update, the median of the rounds."""
    import torch

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    seconds = []
    for turn in range(-1, rounds):
        synchronise()
        started = time.perf_counter()
        count = updates if turn >= 0 else WARM_UPDATES
        for number in range(count):
            update(number)
        synchronise()
        if turn >= 0:
            seconds.append((time.perf_counter() - started) / count)
    return statistics.median(seconds)


def _learner(shape: Shape) -> Any:
    from ..trainer.learner import Learner

    tokens = Codec(shape.card.vocabulary).encode(shape.text())
    return Learner(shape.card, shape.options, tokens, shape.device, random_state(shape.card))


def _forget(device: torch.device) -> None:
    """Give back what a loop held: the next one may need all of the memory."""
    import torch

    if "torch._dynamo" in sys.modules:  # which keeps what was compiled
        torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
