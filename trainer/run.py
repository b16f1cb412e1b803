"""A run in motion: updates, validations, checkpoints, log and display."""

from __future__ import annotations

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
from .metrics import Report, running_average
from .options import TrainOptions
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
    """The learner, and everything that is shown and written down about it."""

    def __init__(
        self, card: Card, learner: Learner, record: Record, folder: RunFolder, display: Display
    ) -> None:
        self._card = card
        self._learner = learner
        self._options = learner.options
        self._record = record
        self._folder = folder
        self._display = display
        self._began = time.monotonic() - record.seconds
        self._saved_at = time.monotonic()
        self._keeps = False  # a checkpoint other than `last`
        self._save_seconds = 0.0
        self._durations: deque[float] = deque(maxlen=_SPEED_WINDOW)

    def go(self) -> Result:
        """Do the updates that are left."""
        options, record, schedule = self._options, self._record, self._learner.schedule
        self._display.note(
            f"model: {options.cell} {options.layers} x {options.hidden}, {stored_parameters(self._card):,}"
            f" parameters; on {self._learner.device.type} in {options.precision},"
            f" {options.windows} windows of {options.seq_len} an update"
        )
        log = Log(self._folder, record.step, self._display.note)
        with StopRequest() as stop:
            self._display.start(record.step, options.steps)
            try:
                for index in range(record.step, options.steps):
                    if schedule.is_over:
                        self._display.note(
                            f"enough after update {record.step}: {options.patience} validations in a row"
                            " were no better than the best"
                        )
                        break
                    self._update(index, log)
                    if stop.requested:
                        break
                    if self._save_is_due():
                        self._save_last()
                self._save_last()
            finally:
                self._display.stop()
        curve.update(self._folder, self._display.note)
        return Result(self._folder.path, record, record.step if schedule.is_over else options.steps)

    def _update(self, index: int, log: Log) -> None:
        options, record = self._options, self._record
        started = time.monotonic()
        batch = self._learner.update(index)
        now = time.monotonic()
        self._durations.append(now - started)
        record.step = step = index + 1
        record.train = running_average(record.train, batch, step)
        record.seconds = now - self._began
        mean = sum(self._durations) / len(self._durations)
        report = Report(
            step=step,
            steps=options.steps,
            batch=batch,
            running=record.train,
            lr=self._learner.learning_rate(index),
            characters_per_second=options.windows * options.seq_len / mean,
            seconds=record.seconds,
            seconds_left=(options.steps - step) * mean,
        )
        last = step == options.steps
        validating = bool(options.val_fraction) and (step % options.val_every == 0 or last)
        self._display.update(report)
        if validating:
            self._validate()
        if step % LOG_EVERY == 0 or step == 1 or validating or last:
            log.write(self._log_entry(report, validating))
        for accuracy in options.keep_at_accuracy:
            if record.train.accuracy >= accuracy and accuracy not in record.kept_accuracies:
                record.kept_accuracies.append(accuracy)
                self._save(self._folder.accuracy(accuracy))
                kept = RunFolder(options.out).accuracy(accuracy)  # where it will be
                self._display.note(f"{step:>6} running accuracy {accuracy:g} reached, kept in {kept}")

    def _validate(self) -> None:
        record = self._record
        metrics = self._learner.validate()
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
        checkpoint.save(folder, self._card, self._learner.state(), self._record, training_state)
        self._keeps = True

    def _save_is_due(self) -> bool:
        pause = max(SAVE_SECONDS, self._save_seconds / _SAVE_SHARE)
        waited = time.monotonic() - self._saved_at
        if not self._folder.taken:
            return self._keeps or self._record.step >= FIRST_UPDATES or waited >= min(pause, FIRST_SECONDS)
        return waited >= pause

    def _save_last(self) -> None:
        started = time.monotonic()
        self._save(self._folder.last, to_go_on=True)
        if isinstance(self._folder, NewRun) and not self._folder.taken:
            old = self._folder.take()
            if old is not None:
                self._display.note(moved(self._folder.path, old))
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started
