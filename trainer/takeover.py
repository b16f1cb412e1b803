"""How a new run takes its folder, and what is put right after a kill.

A new run works in a hidden folder until it has its first ``last``: ``.NAME.starting`` beside the run
folder, or ``.starting`` inside it where the folder is there and holds no run. Committing that checkpoint
decides: before, a run that diverges, is refused or is killed has changed nothing; after it, the run that
was there moves to the first free ``NAME.old-N``, and the hidden folder takes its place. What a kill leaves
half done of that is done by whoever locks the folder next.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ..contract.errors import P2Error, UsageError
from ..contract.files import explain, locked, make_folder, sync_folder, writing
from .checkpoint import holds_checkpoint
from .runfolder import RunFolder

Replaces = Callable[[Path], bool]
"""Told the folder of an earlier run: whether that may go, because it can be made again at any time."""

_STARTING, _REPLACED = "starting", "replaced"


class NewRun(RunFolder):
    """A run without a checkpoint yet, in a hidden folder; once it has taken its own, all paths are there.

    Args:
        target: the folder it will be in.
        replaces: see `Replaces`; None keeps every earlier run.
    """

    taken = False

    def __init__(self, target: Path, replaces: Replaces | None) -> None:
        full = target.resolve()
        empty = full.is_dir() and not RunFolder(target).holds_run()
        super().__init__(target / f".{_STARTING}" if empty else _sibling(target, _hidden(target, _STARTING)))
        self.target = target
        self._replaces = replaces

    def take(self) -> Path | None:
        """Take the folder; `last` is there. Returns where an earlier run went that is kept.

        Raises:
            P2Error: the file system refused; this run stays where it is until it can be done.
        """
        try:
            old = _finish(self.target, self._replaces)
        except OSError as error:
            raise P2Error(
                f"the new run cannot take {self.target} ({explain(error)}): it is in {self.path} until"
                " the next `p2 train` can"
            ) from error
        self.path, self.taken = self.target, True
        return old


@contextlib.contextmanager
def occupied(path: Path, say: Callable[[str], None], replaces: Replaces | None = None) -> Iterator[RunFolder]:
    """Keep other p2 processes from training in `path`; first put right what killed ones left.

    Args:
        path: a run folder that may be there or not.
        say: told where an earlier run is, if one has moved.
        replaces: as for `NewRun`.

    Raises:
        P2Error: another one is training there, or the file system refused.
    """
    with locked(lock_of(path), path):
        with writing(path):
            old = _recover(path, replaces)
        if old is not None:
            say(moved(path, old))
        run = RunFolder(path)
        run.tidy()
        yield run


@contextlib.contextmanager
def begun(path: Path, replaces: Replaces | None = None) -> Iterator[NewRun]:
    """A new run for the folder `path`, which is locked; gone afterwards if it has not come to a checkpoint.

    Raises:
        UsageError: the folder has other things in it, or is the one that the person is in.
        P2Error: an earlier run could not move aside, or the file system refused.
    """
    full = path.resolve()
    if RunFolder(path).holds_run():
        _check_can_move(path, full)
    elif full.exists():
        if not full.is_dir():
            raise P2Error(f"cannot write {path}: file exists")
        if any(not item.name.startswith(".") for item in full.iterdir()):
            raise UsageError(
                f"--out {path} is not empty and holds no training run: name a new or an empty folder"
            )
    run = NewRun(path, replaces)
    try:
        make_folder(run.path)
        yield run
    except P2Error as error:
        if run.taken:
            raise
        # A person knows the folder by the name that it will have.
        raise type(error)(str(error).replace(str(run.path), str(path))) from error
    finally:
        if not run.taken:
            if holds_checkpoint(run.last):
                run.take()
            else:
                shutil.rmtree(run.path, ignore_errors=True)


def _check_can_move(path: Path, full: Path) -> None:
    """Refuse before the training what would be refused after it has begun."""
    if Path.cwd().is_relative_to(full):
        raise UsageError(f"--out {path} is the folder you are in: run p2 from outside it")
    reason = ""
    if os.path.ismount(full):
        reason = "it is a mount point"
    elif not os.access(full.parent, os.W_OK | os.X_OK):
        reason = f"{full.parent} cannot be written to"
    if reason:
        raise P2Error(f"the run in {path} cannot move aside, {reason}: name another folder with --out")


def _recover(path: Path, replaces: Replaces | None) -> Path | None:
    """Finish or undo what a killed run had begun; the folder is locked, so nobody is at it.

    Returns:
        Where an earlier run went, if one has moved.
    """
    full, old = path.resolve(), None
    for starting in (_hidden(path, _STARTING), full / f".{_STARTING}"):
        if not starting.is_dir():
            continue
        if not holds_checkpoint(RunFolder(starting).last):
            shutil.rmtree(starting)
        elif starting.parent == full or not full.exists() or RunFolder(full).holds_run():
            # Else somebody has put other things there since then.
            old = _finish(path, replaces)
    replaced = _hidden(path, _REPLACED)
    if replaced.is_dir():
        if full.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(full)
    return old


def _finish(path: Path, replaces: Replaces | None) -> Path | None:
    """Give the folder to the run that has started; killed before any line, it can be called again."""
    full = path.resolve()
    inside, beside = full / f".{_STARTING}", _hidden(path, _STARTING)
    if inside.is_dir():
        # The checkpoint comes last: as long as it is in there, this is not done.
        for name in sorted(os.listdir(inside), key=lambda name: name == RunFolder(inside).last.name):
            (inside / name).rename(full / name)
        inside.rmdir()
        return None
    old, replaced = None, _hidden(path, _REPLACED)
    if full.exists():
        if replaces is not None and replaces(full):
            full.rename(replaced)
        else:
            old = _free(full)
            full.rename(old)
    beside.rename(full)
    sync_folder(full.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return None if old is None else _sibling(path, old)


def current(path: Path) -> Path:
    """Where the run that is training for the folder `path` is now: in a hidden folder until it takes that."""
    hidden = (path.resolve() / f".{_STARTING}", _hidden(path, _STARTING))
    return next((folder for folder in hidden if folder.is_dir()), path)


def moved(path: Path, old: Path) -> str:
    """The line about an earlier run that has made room."""
    return f"the run that was in {path} is now in {old}"


def _free(full: Path) -> Path:
    number = 1
    while os.path.lexists(path := full.with_name(f"{full.name}.old-{number}")):
        number += 1
    return path


def _hidden(path: Path, suffix: str) -> Path:
    full = path.resolve()
    return full.parent / f".{full.name}.{suffix}"


def _sibling(path: Path, sibling: Path) -> Path:
    """A path beside the run folder, as the person writes it; in full where a link leads elsewhere."""
    full = path.resolve()
    same = path.name == full.name and path.parent.resolve() == full.parent
    return path.with_name(sibling.name) if same else sibling


def lock_of(path: Path) -> Path:
    """The lock of a run folder: beside it, since the folder moves; inside, where it cannot move anyway."""
    full = path.resolve()
    alone = full.is_dir() and not os.access(full.parent, os.W_OK | os.X_OK)
    return full / ".lock" if alone or not full.name else _hidden(path, "lock")
