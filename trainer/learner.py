"""The learning itself: one Adam update at a time, and the validation. No files, no display."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..contract.card import Card
from ..contract.errors import ContractError, P2Error
from ..contract.noise import words
from .allocator import keep_freed_memory
from .device import mixed
from .metrics import Metrics
from .model import CharModel, State
from .options import TrainOptions
from .windows import Batches, Lanes, RandomWindows, split, widened

VALIDATION_CHARACTERS = 1 << 16
"""At most so many characters of the held-out text are read in one validation."""

LARGEST_LOSS = 1e6
"""Nats per character at which a run has diverged: guessing costs about 5, and none comes back from there."""

_VALIDATION_LANES = 16  # read side by side, for speed; each is thousands of characters long
_VALIDATION_WINDOW = 256

_DROPOUT_STREAM = 3
_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE = "state"


class Learner:
    """A model, its optimiser and its batches.

    Update `step` depends on the parameters, the optimiser's moments, the carried state and
    (seed, step), and on nothing else; the first three are what `state` and `training_state` give.
    On a CPU the process keeps the memory that it frees (`allocator`).

    Args:
        card: what to build.
        options: with `precision` settled (not ``auto``).
        tokens: all of the text in the card's vocabulary, any integers ``[characters]``; its tail is held out.
            They stay where they are, in the memory of the host: what an update needs is widened and moved.
        device: where to compute.
        weights: the parameters to start from; None draws them from the seed.

    Raises:
        P2Error: the text is too short.
    """

    def __init__(
        self,
        card: Card,
        options: TrainOptions,
        tokens: npt.NDArray[np.integer[Any]],
        device: torch.device,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.options = options
        self.device = device
        train, validation = split(tokens, options.val_fraction, options.seq_len)
        self.train_characters = len(train)
        self._validation = widened(validation[: VALIDATION_CHARACTERS + 1], device)
        kind = Lanes if options.stateful else RandomWindows
        self._batches: Batches = kind(train, options.seq_len, options.batch_size, options.seed, device)
        self._carried: State | None = None
        self.model = CharModel(card, options.dropout)
        if weights is None:
            self.model.initialise(options.seed)
        else:
            self.model.load_state_dict(dict(weights))
        self.model.to(device)
        self._optimiser = torch.optim.Adam(self.model.parameters(), lr=options.lr, fused=True)

    def learning_rate(self, step: int) -> float:
        """Of update `step` (from 0): ``lr * lr_decay ** (step / 1000)``."""
        return self.options.lr * math.pow(self.options.lr_decay, step / 1000)

    def update(self, step: int) -> Metrics:
        """Do update `step` (from 0) and return the quality on its batch, measured before it.

        Raises:
            P2Error: the loss or its gradient is not a finite number, or the loss is beyond all reason; the
                parameters are unchanged.
        """
        options = self.options
        self.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        inputs, targets = self._batches.batch(step)
        state = None if self._batches.starts_fresh(step) else self._carried
        if options.dropout:
            torch.manual_seed(_dropout_seed(options.seed, step))
        with mixed(self.device, options.precision):
            logits, state = self.model(inputs, state)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.clip or math.inf)
        right = (logits.detach().argmax(dim=-1) == targets).float().mean()
        # One transfer for all three: on a GPU each would wait for the whole update.
        loss_value, accuracy, norm_value = torch.stack([loss.detach(), right, norm]).tolist()
        if not (abs(loss_value) < LARGEST_LOSS and math.isfinite(norm_value)):
            raise P2Error(
                f"training diverged at update {step + 1} (loss {loss_value}, gradient norm {norm_value}): "
                + self._advice()
            )
        self._optimiser.step()
        if options.stateful:
            self._carried = {name: tensor.detach() for name, tensor in state.items()}
        return Metrics(loss_value, accuracy)

    @torch.inference_mode()
    def validate(self) -> Metrics:
        """Quality on the held-out text, in float32, in one pass that carries the state.

        The text (its first `VALIDATION_CHARACTERS`) is read as up to 16 lanes side by side, each from
        a zero state.

        Raises:
            P2Error: the loss is not a finite number.
        """
        self.model.eval()
        tokens = self._validation
        lanes = max(1, min(_VALIDATION_LANES, (len(tokens) - 1) // _VALIDATION_WINDOW))
        length = (len(tokens) - 1) // lanes
        inputs = tokens[: lanes * length].view(lanes, length)
        targets = tokens[1 : lanes * length + 1].view(lanes, length)
        state: State | None = None
        loss, right = 0.0, 0
        for start in range(0, length, _VALIDATION_WINDOW):
            window = slice(start, start + _VALIDATION_WINDOW)
            logits, state = self.model(inputs[:, window], state)
            flat, wanted = logits.flatten(0, 1), targets[:, window].flatten()
            loss += F.cross_entropy(flat, wanted, reduction="sum").item()
            right += int((flat.argmax(dim=-1) == wanted).sum())
        if not math.isfinite(loss):
            raise P2Error(f"training diverged (validation loss {loss}): {self._advice()}")
        mean = loss / (lanes * length)
        if not mean < LARGEST_LOSS:
            raise P2Error(f"training diverged: the held-out text has a loss of {mean}: {self._advice()}")
        return Metrics(mean, right / (lanes * length))

    def _advice(self) -> str:
        clip = "a smaller --clip" if self.options.clip else "--clip 1"
        return f"a smaller --lr or {clip} usually helps"

    def state(self) -> dict[str, Tensor]:
        """The parameters, by name."""
        return dict(self.model.state_dict())

    def training_state(self) -> dict[str, Tensor]:
        """What else the next update depends on: ``exp_avg.*``, ``exp_avg_sq.*`` and ``state.*``."""
        tensors = {
            f"{moment}.{name}": self._optimiser.state[parameter][moment]
            for name, parameter in self.model.named_parameters()
            for moment in _MOMENTS
            if parameter in self._optimiser.state
        }
        return tensors | {f"{_STATE}.{name}": tensor for name, tensor in (self._carried or {}).items()}

    def restore(self, training_state: Mapping[str, Tensor], step: int) -> None:
        """Go on from where `training_state` was taken, after `step` updates.

        Raises:
            ContractError: the training state does not belong to this model.
        """
        moments = {}
        try:
            for index, (name, parameter) in enumerate(self.model.named_parameters()):
                found = {moment: training_state[f"{moment}.{name}"] for moment in _MOMENTS}
                for moment, tensor in found.items():
                    if tensor.shape != parameter.shape:
                        raise KeyError(f"{moment}.{name}")
                moments[index] = {"step": torch.tensor(float(step)), **found}
            if self.options.stateful:
                self._carried = {
                    name: training_state[f"{_STATE}.{name}"].to(self.device)
                    for name in self.model.card.state_names
                }
        except KeyError as error:
            raise ContractError(
                f"the optimiser's state does not belong to this model: it has no right {error}"
            ) from error
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})


@contextlib.contextmanager
def scoped(device: torch.device, threads: int | None) -> Iterator[None]:
    """Leave PyTorch's global generators and thread count as they were."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if threads:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _dropout_seed(seed: int, step: int) -> int:
    upper, lower = words(seed, _DROPOUT_STREAM, step, 1, 2)[0].tolist()
    return int(upper << 31 | lower >> 1)
