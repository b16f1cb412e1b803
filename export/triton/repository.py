"""Lay an export out as a Triton model repository: every model's folder, or its next version, in one rename.

    REPO/charlm_step/1/model.onnx       the step, for the ONNX Runtime backend
    REPO/charlm_plan/1/model.plan       the plan, for the TensorRT backend; its sidecar beside it
    REPO/charlm/1/model.py, model.onnx  texts, for the Python backend

Nothing that is there is replaced. What is exported again under the same name becomes the next version, which
Triton serves from then on; a ``config.pbtxt`` that somebody has edited stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...contract import files
from ...contract.errors import P2Error
from ...contract.plan import FLAVOURS, TENSORRT, read_sidecar, sidecar_path
from ...runtime.onnx_tensors import FLOAT16
from ...runtime.step_file import open_step
from ..scratch import appear, scratch
from . import config

# The Python backend looks for this class in this file. What it does is in the package, so that a new p2 is
# one installation, and no edit of a repository.
_MODEL_PY = '''"""Texts of the model beside this file; p2 has to be installed where Triton runs."""

from pathlib import Path

from p2.serve.triton import TextModel


class TritonPythonModel(TextModel):
    """What Triton's Python backend looks for."""

    file = Path(__file__).with_name("model.onnx")
'''

_SCRATCH = ".p2."


@dataclass(frozen=True)
class Model:
    """One model's folder.

    Attributes:
        folder: in the repository.
        files: what a version holds: name to the file that it is, or to its text.
        config: of its ``config.pbtxt``.
        read: the config that a version would have been given, by what it holds.
        said: what it is, for people.
    """

    folder: Path
    files: dict[str, Path | str]
    config: str
    read: Callable[[Path], str]
    said: str


class Repository:
    """A Triton model repository that exports are put into.

    Args:
        path: its folder; made if it is missing.
        name: of the models: ``NAME`` writes texts, ``NAME_step`` and ``NAME_plan`` are steps.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._step, self._plan, self._texts = (path / f"{name}{end}" for end in ("_step", "_plan", ""))

    def check(self) -> None:
        """Refuse what cannot be written to before any work is done.

        Raises:
            P2Error: the repository is no folder, or what is in a model's place is not p2's.
        """
        if self.path.exists() and not self.path.is_dir():
            raise P2Error(f"--triton names the folder of a model repository, and {self.path} is a file")
        for folder, read in ((self._step, _of_step), (self._plan, _of_plan), (self._texts, _of_step)):
            _newest(folder, read)

    def put(self, onnx: Path, plan: Path | None, say: Callable[[str], None]) -> tuple[Path, ...]:
        """Put the models of one export in.

        Args:
            onnx: the step graph.
            plan: the plan, if there is one.
            say: receives a line about each model.

        Returns:
            the folders of the models.

        Raises:
            P2Error: a folder is there of a model of another shape, or not of p2's making; the file system
                refused.
        """
        models = [
            Model(self._step, {"model.onnx": onnx}, _of_step(onnx), _of_step, "the step, ONNX Runtime"),
            Model(
                self._texts,
                {"model.onnx": onnx, "model.py": _MODEL_PY},
                config.texts(),
                lambda version: _of_step(version) and config.texts(),
                "texts, Python",
            ),
        ]
        if plan is not None:
            flavour = FLAVOURS[read_sidecar(plan).flavour]
            if flavour == TENSORRT:
                held: dict[str, Path | str] = {"model.plan.json": sidecar_path(plan), "model.plan": plan}
                models.insert(1, Model(self._plan, held, _of_plan(plan), _of_plan, "the step, TensorRT"))
            else:
                say(f"{plan.name} is not put in: Triton runs plans of TensorRT, not of {flavour.title}")
        folders = tuple(model.folder for model in models)
        if self._plan not in folders and self._plan.exists():
            say(f"{self._plan} stays as an earlier export made it")
        for model in models:
            _check_shape(model)
        with files.writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for model in models:
                with scratch(self.path, _SCRATCH) as folder:
                    said = _put(model, folder)
                say(f"{said} ({model.said})")
        return folders


def _put(model: Model, made: Path) -> str:
    """Put one model in; returns what was done."""
    newest = _newest(model.folder, model.read)
    if newest is not None and all(_same(newest / name, source) for name, source in model.files.items()):
        return f"{newest} is this model already"
    number = 1 if newest is None else int(newest.name) + 1
    version = made / str(number)
    version.mkdir()
    for name, source in model.files.items():
        _place(source, version / name)
    if newest is None:
        files.write_bytes(made / "config.pbtxt", model.config.encode())
        appear(made, model.folder)
    else:
        os.rename(version, model.folder / str(number))
    files.sync_folder(model.folder)
    files.sync_folder(model.folder.parent)
    return f"wrote {model.folder / str(number)}"


def _check_shape(model: Model) -> None:
    newest = _newest(model.folder, model.read)
    if newest is not None and _config_of(newest, model.read) != model.config:
        raise P2Error(
            f"{model.folder} holds a model of another shape (cell, sizes, vocabulary, float type or batches):"
            " give --triton another repository, or --out another name"
        )


def _newest(folder: Path, read: Callable[[Path], str]) -> Path | None:
    """The newest version of a model, or None where there is none.

    Raises:
        P2Error: the folder was not made by p2.
    """
    if not os.path.lexists(folder):
        return None
    versions = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    newest = max(versions, key=lambda path: int(path.name), default=None)
    try:
        if newest is None or not (folder / "config.pbtxt").is_file():
            raise P2Error("it has no version or no config.pbtxt")
        _config_of(newest, read)
    except P2Error as error:
        raise P2Error(
            f"{folder} is there already, and is no model that p2 exported: give --triton another repository,"
            " or --out another name"
        ) from error
    return newest


def _config_of(version: Path, read: Callable[[Path], str]) -> str:
    return read(version / ("model.plan" if read is _of_plan else "model.onnx"))


def _of_step(onnx: Path) -> str:
    step = open_step(onnx)
    return config.onnx_step(step.card, "float16" if step.float_type == FLOAT16 else "float32")


def _of_plan(plan: Path) -> str:
    return config.plan_step(read_sidecar(plan))


def _same(path: Path, source: Path | str) -> bool:
    if isinstance(source, str):
        return path.is_file() and path.read_bytes() == source.encode()
    return path.is_file() and files.sha256_of(path) == files.sha256_of(source)


def _place(source: Path | str, target: Path) -> None:
    """A text, or a file by another name; a copy where the file system has no links."""
    if isinstance(source, str):
        files.write_bytes(target, source.encode())
        return
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    with source.open("rb") as file:
        files.write_atomically(target, lambda copy: shutil.copyfileobj(file, copy))
