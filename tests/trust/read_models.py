"""Checkpoints, step files and plans: good files, hostile ones, and their use; see `reading.Reader`."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import tempfile
from pathlib import Path

from p2.contract.card import Card

from .. import test_documents as documents
from ..conftest import CELLS
from ..runtime import forging
from ..runtime.test_forged_files import good as good_step
from ..runtime.test_forged_files import use
from . import breaking, breaking_models
from .reading import Files, Reader

Rnd = random.Random


@functools.cache
def good_checkpoint(number: int) -> Files:
    from p2.trainer import checkpoint
    from p2.trainer.metrics import Metrics
    from p2.trainer.model import CharModel
    from p2.trainer.options import TrainOptions
    from p2.trainer.record import Record

    cell, reset = CELLS[number % 4]
    card = Card(cell, 2, 4, 8, "\nabc", gru_reset=reset)
    corpus = {"sources": ["a.txt"], "sha256": "0" * 64, "characters": 9}
    metrics = Metrics(1.0, 0.5)
    record = Record(TrainOptions().to_dict(), corpus, {"torch": "2"}, 3, 1.5, metrics, metrics, 2, 1.0, [0.5])
    with tempfile.TemporaryDirectory() as folder:
        state = dict(CharModel(card).state_dict())
        checkpoint.save(Path(folder) / "c", card, state, record, {"moment": state["output.bias"]})
        return {path.name: path.read_bytes() for path in (Path(folder) / "c").iterdir()}


def forge_manifest(files: Files, rnd: Rnd) -> Files:
    data = breaking.json_text(files["model.json"], rnd)
    return files | {"model.json": breaking.sealed(data) if rnd.random() < 0.8 else data}


def forge_tensors(files: Files, rnd: Rnd) -> Files:
    name = rnd.choice([name for name in files if name != "model.json"])
    data = breaking_models.safetensors(files[name], rnd)
    manifest = json.loads(files["model.json"])
    kind = name.split("-")[0]
    manifest["files"][kind]["sha256"] = hashlib.sha256(data).hexdigest()
    if kind == "model":
        manifest["card"]["checkpoint_sha256"] = manifest["files"][kind]["sha256"]
    return files | {name: data, "model.json": breaking.sealed(json.dumps(manifest).encode())}


def read_checkpoint(folder: Path) -> None:
    from p2.commands import inspection
    from p2.trainer import checkpoint
    from p2.trainer.eager import open_checkpoint
    from p2.trainer.options import TrainOptions

    found = inspection.describe(str(folder))
    inspection.show(found, documents.screen())
    TrainOptions.from_dict(found["training"]["options"], folder, "x")
    checkpoint.load_training_state(checkpoint.load(folder))
    use(open_checkpoint(folder))


# Step files and plans


def step(number: int) -> Files:
    return {"charlm.onnx": good_step(number)}


def forge_fields(files: Files, rnd: Rnd) -> Files:
    data = breaking_models.protobuf(files["charlm.onnx"], rnd)
    return {"charlm.onnx": breaking_models.signed(data) if rnd.random() < 0.85 else data}


def forge_meaning(files: Files, rnd: Rnd) -> Files:
    return {"charlm.onnx": forging.forged(files["charlm.onnx"], rnd)}


def read_step(folder: Path) -> None:
    from p2.commands import inspection

    found = inspection.describe(str(folder / "charlm.onnx"))
    inspection.show(found, documents.screen())
    use_native(folder / "charlm.onnx")


def use_native(path: Path) -> None:
    from p2.runtime.native.engine import NativeEngine, why_not
    from p2.runtime.step_file import open_step

    found = open_step(path)
    if why_not(found) is None:
        use(NativeEngine(found, 1))


def run_step(folder: Path) -> None:
    """On every engine that is here."""
    from p2.runtime.onnxruntime.engine import OnnxEngine
    from p2.runtime.onnxruntime.gpu import OnnxGpuEngine
    from p2.runtime.onnxruntime.providers import STAND_IN
    from p2.runtime.step_file import open_step

    use_native(folder / "charlm.onnx")
    found = open_step(folder / "charlm.onnx")
    use(OnnxEngine(found, 1))
    use(OnnxGpuEngine(found, STAND_IN))


@functools.cache
def good_plan(_number: int) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        path, document, _ = documents.a_sidecar(Path(folder))
        return {
            "charlm.plan": (Path(folder) / "charlm.plan").read_bytes(),
            path.name: breaking.sealed(json.dumps(document | {"sidecar_version": 2}).encode()),
        }


def forge_plan(files: Files, rnd: Rnd) -> Files:
    plan, sidecar = files["charlm.plan"], files["charlm.plan.json"]
    if rnd.random() < 0.3:
        plan = breaking.any_bytes(plan, rnd)
        told = json.loads(sidecar) | {
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "plan_bytes": len(plan),
        }
        sidecar = json.dumps(told).encode()
    else:
        sidecar = breaking.json_text(sidecar, rnd)
    sidecar = breaking.sealed(sidecar) if rnd.random() < 0.8 else sidecar
    return {"charlm.plan": plan, "charlm.plan.json": sidecar}


def read_plan(folder: Path) -> None:
    from p2.commands import inspection

    found = inspection.describe(str(folder / "charlm.plan"))
    inspection.show(found, documents.screen())
    inspection.show(found, documents.screen(), kernels=True)


READERS = (
    Reader("checkpoint: model.json", good_checkpoint, forge_manifest, read_checkpoint, 1500),
    Reader("checkpoint: tensors", good_checkpoint, forge_tensors, read_checkpoint, 1000),
    Reader("step: fields", step, forge_fields, read_step, 2000),
    Reader("step: meaning", step, forge_meaning, run_step, 400),
    Reader("plan", good_plan, forge_plan, read_plan, 2500, 90),
)
