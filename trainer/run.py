"""A run in motion: updates, validations, checkpoints, log and display."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.card import Card, stored_parameters
from ..contract.shell import command
from . import checkpoint, curve
from .checkpoint import holds_checkpoint
from .display import Display, duration
from .learner import Learner
from .metrics import Metrics, Report, running_average
from .options import TrainOptions
from .ranks import ALONE, Lost, Ranks
from .record import Record
from .runfolder import Log, RunFolder
from .signals import StopRequest
from .sources import STDIN
from .takeover import NewRun, moved

LOG_EVERY = 10
"""Updates between two lines of the log."""

SAVE_SECONDS = 30.0
"""Time between two saves of ``last``; longer where saving itself takes long."""

FIRST_UPDATES, FIRST_SECONDS = 10, 5.0
"""After so many updates, or so much time, a new run saves for the first time and takes its folder."""

LOST_SECONDS = 20.0
"""A GPU that has not done an update so long after a signal waits for a process that is gone."""

_SAVE_SHARE = 0.05  # saving takes at most this share of the time
_SPEED_WINDOW = 20  # updates that the shown speed looks back on


@dataclass(frozen=True)
class Result:
    """What a run ended with.

    Attributes:
        folder: the run folder.
        record: the run in figures.
        steps: updates that were asked for, or that were enough.
    """

    folder: Path
    record: Record
    steps: int

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before its last update."""
        return self.record.step < self.steps

    def summary(self) -> list[str]:
        """Where things are and what to do next, in a few lines."""
        record, run = self.record, RunFolder(self.folder)
        if self.interrupted:
            return [
                f"stopped after update {record.step} of {self.steps}; everything is in {run.last}",
                f"to go on: {resume_command(self.folder, record)}",
            ]
        best = run.best if holds_checkpoint(run.best) else run.last
        where = () if self.folder == TrainOptions.out else (self.folder,)
        return [
            f"done: {record.step} updates in {duration(record.seconds)}",
            f"the model is in {best}, the log in {run.log}",
            f"next: {command('p2', 'export', '--fp16', *where)}",
        ]


def resume_command(out: Path, record: Record) -> str:
    """The command that goes on with a run."""
    words: list[str | Path] = ["p2", "train", "--resume"]
    if STDIN in record.sources:
        words += [source if source == STDIN else Path(source) for source in record.sources]
    if out != TrainOptions.out:
        words += ["--out", str(out)]
    return command(*words)


class Run:
    """The learner, and everything that is shown and written down about it.

    Of processes that train together each has one, and the first one's writes.
    """

    def __init__(
        self,
        card: Card,
        learner: Learner,
        record: Record,
        folder: RunFolder,
        display: Display,
        ranks: Ranks = ALONE,
    ) -> None:
        self._card = card
        self._learner = learner
        self._options = learner.options
        self._record = record
        self._folder = folder
        self._display = display
        self._ranks = ranks
        self._log: Log | None = None
        self._stop = StopRequest(once=ranks.size == 1)
        self._saved_step = record.step
        self._began = time.monotonic() - record.seconds
        self._saved_at = time.monotonic()
        self._keeps = False  # a checkpoint other than `last`
        self._save_seconds = 0.0
        self._durations: deque[float] = deque(maxlen=_SPEED_WINDOW)

    def go(self) -> Result:
        """Do the updates that are left.

        Raises:
            P2Error: the training diverges, or the file system refuses.
            Lost: another process has ended; the sentence says where things are.
        """
        options, record = self._options, self._record
        self._display.note(
            f"model: {options.cell} {options.layers} x {options.hidden}, {stored_parameters(self._card):,}"
            f" parameters; on {self._learner.device.type} in {options.precision},"
            f" {options.windows} windows of {options.seq_len} an update"
            + (f", shared out among {self._ranks.size} processes" if self._ranks.size > 1 else "")
        )
        with self._stop:
            if self._ranks.first:
                self._log = Log(self._folder, record.step, self._display.note)
            self._display.start(record.step, options.steps)
            try:
                self._updates()
            except Lost as lost:
                raise self._parted(lost) from lost
            finally:
                self._display.stop()
            if self._ranks.first:
                curve.update(self._folder, self._display.note)
            with contextlib.suppress(Lost):  # who is done first would look to torchrun like one that failed
                self._ranks.meet()
        over = self._learner.schedule.is_over
        return Result(self._folder.path, record, record.step if over else options.steps)

    def _updates(self) -> None:
        for index in range(self._record.step, self._options.steps):
            if self._learner.schedule.is_over:
                self._display.note(
                    f"enough after update {index}: {self._options.patience} validations in a row"
                    " were no better than the best"
                )
                break
            everything = self._wanted_at_once(index + 1)
            started = time.monotonic()
            self._learner.enqueue(index)
            batches = self._learner.figures(everything=everything, give_up=self._give_up)
            self._durations.append(time.monotonic() - started)
            for batch in batches:
                self._updated(batch)
            due = self._ranks.first and self._save_is_due()
            stop, save = self._ranks.agree(self._stop.requested, due)
            if stop:
                break
            if save:
                self._save_last()
        self._save_last()

    def _wanted_at_once(self, step: int) -> bool:
        """Whether update `step` has to be known before the next begins: something may be done after it."""
        options, record = self._options, self._record
        best = record.train
        for later in range(record.step + 1, step + 1):  # one that predicts everything
            best = running_average(best, Metrics(0.0, 1.0), later)
        missing = set(options.keep_at_accuracy) - set(record.kept_accuracies)
        keeps = best is not None and any(accuracy <= best.accuracy for accuracy in missing)
        return keeps or self._validates(step) or step == options.steps

    def _validates(self, step: int) -> bool:
        options = self._options
        return bool(options.val_fraction) and (step % options.val_every == 0 or step == options.steps)

    def _give_up(self) -> None:
        if self._ranks.size > 1 and self._stop.seconds() > LOST_SECONDS:
            raise Lost("an update does not end")

    def _updated(self, batch: Metrics) -> None:
        """Take down one update more."""
        options, record = self._options, self._record
        record.step = step = record.step + 1
        record.train = running_average(record.train, batch, step)
        record.seconds = time.monotonic() - self._began
        mean = sum(self._durations) / len(self._durations)
        report = Report(
            step=step,
            steps=options.steps,
            batch=batch,
            running=record.train,
            lr=self._learner.learning_rate(step - 1),
            characters_per_second=options.windows * options.seq_len / mean,
            seconds=record.seconds,
            seconds_left=(options.steps - step) * mean,
        )
        last = step == options.steps
        validating = self._validates(step)
        self._display.update(report)
        if validating:
            self._validate()
        if self._log and (step % LOG_EVERY == 0 or step == 1 or validating or last):
            self._log.write(self._log_entry(report, validating))
        for accuracy in options.keep_at_accuracy:
            if record.train.accuracy >= accuracy and accuracy not in record.kept_accuracies:
                record.kept_accuracies.append(accuracy)
                self._save(self._folder.accuracy(accuracy))
                kept = RunFolder(options.out).accuracy(accuracy)  # where it will be
                self._display.note(f"{step:>6} running accuracy {accuracy:g} reached, kept in {kept}")

    def _validate(self) -> None:
        record = self._record
        found = self._learner.validate() if self._ranks.first else Metrics(0.0, 0.0)
        metrics = Metrics(*self._ranks.from_first((found.loss, found.accuracy)))
        best = record.best_validation_loss is None or metrics.loss < record.best_validation_loss
        if record.step % self._options.val_every == 0:
            self._learner.schedule.validated(metrics.loss)
        record.validation, record.validation_step = metrics, record.step
        record.seconds = time.monotonic() - self._began
        if best:
            record.best_validation_loss = metrics.loss
            self._save(self._folder.best)
        self._display.validated(record.step, metrics, best)

    def _log_entry(self, report: Report, validated: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"step": report.step, **report.batch.to_dict()}
        entry |= {"running_loss": report.running.loss, "running_accuracy": report.running.accuracy}
        entry["lr"] = report.lr
        entry["characters_per_second"] = round(report.characters_per_second, 1)
        entry["seconds"] = round(report.seconds, 3)
        if validated and self._record.validation:
            entry |= self._record.validation.to_dict("val_")
        return entry

    def _save(self, folder: Path, *, to_go_on: bool = False) -> None:
        training_state = self._learner.training_state() if to_go_on else None
        if not self._ranks.first:
            return
        checkpoint.save(folder, self._card, self._learner.state(), self._record, training_state)
        self._keeps = True

    def _save_is_due(self) -> bool:
        pause = max(SAVE_SECONDS, self._save_seconds / _SAVE_SHARE)
        waited = time.monotonic() - self._saved_at
        if not self._folder.taken:
            return self._keeps or self._record.step >= FIRST_UPDATES or waited >= min(pause, FIRST_SECONDS)
        return waited >= pause

    def _save_last(self) -> None:
        for batch in self._learner.figures(everything=True, give_up=self._give_up):
            self._updated(batch)
        started = time.monotonic()
        self._save(self._folder.last, to_go_on=True)
        self._saved_step = self._record.step
        if isinstance(self._folder, NewRun) and not self._folder.taken:
            old = self._folder.take()
            if old is not None:
                self._display.note(moved(self._folder.path, old))
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def _parted(self, lost: Lost) -> Lost:
        """Save what can be saved when another process has ended, and say where it is.

        The parameters are the same everywhere, but the states of its rows have gone with it, and a GPU may
        wait for it for ever: then what was saved before is what there is.
        """
        here = self._learner.device.type == "cpu" and not self._options.stateful
        if self._ranks.first and here:
            self._save_last()
        last, going_on = self._folder.last, resume_command(self._options.out, self._record)
        if not self._ranks.first:
            what = f"what had been saved is in {last}; to go on from there: {going_on}"
        elif holds_checkpoint(last):
            what = f"everything until update {self._saved_step} is in {last}; to go on: {going_on}"
        else:
            what = "nothing had been saved yet"
        return Lost(lost.reason, f": the training stopped after update {self._record.step}, and {what}")
