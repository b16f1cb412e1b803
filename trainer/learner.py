"""The learning itself: one update of Adam (AdamW) at a time, and the validation. No files, no display."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..contract.card import Card
from ..contract.errors import ContractError, P2Error, UsageError
from ..contract.noise import words
from . import adam
from .allocator import keep_freed_memory
from .device import mixed
from .dropout import Dropout
from .figures import Figures
from .metrics import Metrics
from .model import CharModel, State
from .options import TrainOptions
from .ranks import ALONE, Ranks
from .schedule import Schedule
from .windows import Batches, Lanes, RandomWindows, Tokens, split, widened

VALIDATION_CHARACTERS = 1 << 16
"""At most so many characters of the held-out text are read in one validation."""

LARGEST_LOSS = 1e6
"""Nats per character at which a run has diverged: guessing costs about 5, and none comes back from there."""

_VALIDATION_LANES = 16  # read side by side, for speed; each is thousands of characters long
_VALIDATION_WINDOW = 256

_DROPOUT_STREAM = 3
_STATE = "state"
_WEIGHT = "weight"  # as the updates left it, where what is kept is the average
_SCHEDULE = "schedule"


class Learner:
    """A model, its optimiser and its batches.

    Update `step` depends on the parameters, the optimiser's moments, the carried state, the schedule's and
    (seed, step), and on nothing else; all but the last are what `state` and `training_state` give.
    On a CPU the process keeps the memory that it frees (`allocator`).

    Args:
        card: what to build.
        options: with `precision` settled (not ``auto``).
        tokens: all of the text in the card's vocabulary, any integers ``[characters]``; its tail is held out.
            They stay where they are, in the memory of the host or in a file: what an update needs is widened
            and moved.
        device: where to compute.
        weights: the parameters to start from; None draws them from the seed.
        ranks: the processes that train together; each computes its rows of a batch.

    Attributes:
        model: what the updates change.
        kept: what is validated and saved: the model, or with `ema` the average of its parameters.
        schedule: of the learning rate.

    Raises:
        P2Error: the text is too short.
        UsageError: the weights to start from are not tied, as the options say, or the batch cannot be shared
            out evenly.
    """

    def __init__(
        self,
        card: Card,
        options: TrainOptions,
        tokens: Tokens,
        device: torch.device,
        weights: Mapping[str, Tensor] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self._ranks = ranks
        self._rows = ranks.rows(options.windows)
        self.options = options
        self.device = device
        train, validation = split(tokens, options.val_fraction, options.seq_len)
        self.train_characters = len(train)
        self._validation = widened(validation[: VALIDATION_CHARACTERS + 1], device)
        kind = Lanes if options.stateful else RandomWindows
        self._batches: Batches = kind(train, options.seq_len, options.windows, options.seed, device)
        self._carried: State | None = None
        self.schedule = Schedule(options)
        drop = Dropout(
            options.dropout,
            options.output_dropout,
            options.embedding_dropout,
            options.recurrent_dropout,
            options.weight_drop,
            options.variational,
        )
        self._drop = drop
        self._drops = drop != Dropout()
        self.model = CharModel(card, drop, tied=options.tied)
        if weights is None:
            self.model.initialise(options.seed)
        else:
            if options.tied and not torch.equal(weights["embedding.weight"], weights["output.weight"]):
                raise UsageError("--tied: the embedding and the output layer to start from are not the same")
            self.model.load_state_dict(dict(weights))
        self.model.to(device)
        ranks.spread(self.model.parameters())  # where processors differ, drawing rounds differently
        self.kept = self.model
        if options.ema:
            self.kept = CharModel(card, tied=options.tied).requires_grad_(False)
            self.kept.load_state_dict(self.model.state_dict())
            self.kept.to(device)
        self._figures = Figures(device)
        self._diverged = torch.zeros((), device=device)
        self._optimiser = adam.optimiser(self.model, options)

    def learning_rate(self, step: int) -> float:
        """Of update `step` (from 0)."""
        return self.schedule.rate(step)

    def update(self, step: int) -> Metrics:
        """Do update `step` (from 0) and return the quality on its batch, measured before it.

        Raises:
            P2Error: as `figures`.
        """
        self.enqueue(step)
        return self.figures(everything=True)[-1]

    def enqueue(self, step: int) -> None:
        """Do update `step` (from 0), on a GPU without waiting for it; `figures` says how it went.

        One that diverges, and all that come after it, leave the parameters as they are.
        """
        options = self.options
        self.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        inputs, targets = (part[self._rows] for part in self._batches.batch(step))
        state = None if self._batches.starts_fresh(step) else self._carried
        self._optimiser.zero_grad()
        shares = options.accumulate * self._ranks.size
        at_once = options.windows // shares
        losses, rights, ends = [], [], []
        for part in range(options.accumulate):
            rows = slice(part * at_once, (part + 1) * at_once)
            before = None if state is None else {name: tensor[rows] for name, tensor in state.items()}
            if self._drops:
                # Which of a single process's parts these rows are in.
                before_these = (self._ranks.rank * options.accumulate + part) * at_once
                whole, first = divmod(before_these, options.batch_size)
                if self._ranks.size > 1:
                    self.model.drop = dataclasses.replace(self._drop, part=(first, options.batch_size))
                torch.manual_seed(_dropout_seed(options.seed, step * options.accumulate + whole))
            with mixed(self.device, options.precision):
                logits, after = self.model(inputs[rows], before)
            loss = F.cross_entropy(logits.flatten(0, 1), targets[rows].flatten())
            (loss / shares).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            rights.append((logits.detach().argmax(dim=-1) == targets[rows]).float().mean())
            ends.append({name: tensor.detach() for name, tensor in after.items()})
        means = torch.stack([torch.stack(losses).mean(), torch.stack(rights).mean()]) / self._ranks.size
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        self._ranks.total([*gradients, means])
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.clip or math.inf)
        fine = (means[0].abs() < LARGEST_LOSS) & norm.isfinite()
        self._diverged = torch.maximum(self._diverged, 1 - fine.float())
        self._optimiser.found_inf = self._diverged  # type: ignore[attr-defined]  # what a GradScaler sets
        self._optimiser.step()
        if options.ema:
            self._average(step)
        if options.stateful:
            self._carried = {name: torch.cat([end[name] for end in ends]) for name in ends[0]}
        self._figures.put(step, torch.cat([means, norm[None]]))

    def figures(self, *, everything: bool, give_up: Callable[[], None] = lambda: None) -> list[Metrics]:
        """Quality on the batches of the updates since the last call, measured before each.

        Args:
            everything: all of them; else, on a GPU, all but the newest, for which it would have to wait.
            give_up: called while waiting; may raise.

        Raises:
            P2Error: the loss of one or its gradient is not a finite number, or the loss is beyond all reason;
                the parameters are those before it.
        """
        found = []
        for step, (loss, accuracy, norm) in self._figures.take(everything, give_up):
            if not (abs(loss) < LARGEST_LOSS and math.isfinite(norm)):
                raise P2Error(
                    f"training diverged at update {step + 1} (loss {loss}, gradient norm {norm}): "
                    + self._advice()
                )
            found.append(Metrics(loss, accuracy))
        return found

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Draw the average towards the parameters; at first faster than later, so that it soon forgets the
        initial ones."""
        decay = min(self.options.ema, (1 + step) / (10 + step))
        for mean, parameter in zip(self.kept.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(parameter, 1 - decay)

    @torch.inference_mode()
    def validate(self) -> Metrics:
        """Quality on the held-out text, in float32, in one pass that carries the state.

        The text (its first `VALIDATION_CHARACTERS`) is read as up to 16 lanes side by side, each from
        a zero state.

        Raises:
            P2Error: the loss is not a finite number.
        """
        self.kept.eval()
        tokens = self._validation
        lanes = max(1, min(_VALIDATION_LANES, (len(tokens) - 1) // _VALIDATION_WINDOW))
        length = (len(tokens) - 1) // lanes
        inputs = tokens[: lanes * length].view(lanes, length)
        targets = tokens[1 : lanes * length + 1].view(lanes, length)
        state: State | None = None
        loss, right = 0.0, 0
        for start in range(0, length, _VALIDATION_WINDOW):
            window = slice(start, start + _VALIDATION_WINDOW)
            logits, state = self.kept(inputs[:, window], state)
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
        """The parameters that are kept, by name."""
        state = dict(self.kept.state_dict())
        if self.options.tied:  # a file holds both
            state["output.weight"] = state["output.weight"].clone()
        return state

    def training_state(self) -> dict[str, Tensor]:
        """What else the next update depends on.

        ``exp_avg.*``, ``exp_avg_sq.*``, ``state.*``; ``weight.*`` if what is kept is an average; ``schedule``
        where validations decide. Called by all processes that train together: each has its rows' states.
        """
        tensors = adam.moments(self._optimiser, self.model)
        carried = {name: self._ranks.gather(rows) for name, rows in (self._carried or {}).items()}
        tensors |= {f"{_STATE}.{name}": tensor for name, tensor in carried.items()}
        if self.options.ema:
            tensors |= {f"{_WEIGHT}.{name}": tensor for name, tensor in self.model.named_parameters()}
        if self.schedule.state:
            tensors[_SCHEDULE] = torch.tensor(self.schedule.state, dtype=torch.float64)
        return tensors

    def restore(self, training_state: Mapping[str, Tensor], step: int) -> None:
        """Go on from where `training_state` was taken, after `step` updates.

        Raises:
            ContractError: the training state does not belong to this model.
        """
        try:
            adam.restore(self._optimiser, self.model, training_state, step)
            if self.options.ema:
                for name, parameter in self.model.named_parameters():
                    parameter.data.copy_(adam.shaped(training_state, f"{_WEIGHT}.{name}", parameter))
            if self.options.stateful:
                self._carried = {
                    name: training_state[f"{_STATE}.{name}"][self._rows].to(self.device)
                    for name in self.model.card.state_names
                }
            if _SCHEDULE in training_state:
                self.schedule.restore(adam.shaped(training_state, _SCHEDULE, torch.empty(3)).tolist())
        except KeyError as error:
            raise ContractError(
                f"the optimiser's state does not belong to this model: it has no right {error}"
            ) from error


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
