"""A user's program, of which `make lint` checks the types; nothing runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import p2
from p2.evaluation.run import Evaluation
from p2.export.exporter import Exported  # of a room with the name of a function: `p2.export` stays one
from p2.importing.importer import Imported
from p2.parity.report import Outcome
from p2.trainer.run import Result
from p2.trainer.tokenizing import Tokenized


def write(model: p2.Model) -> None:
    assert_type(model.generate("The ", length=300, tau=2, seed=7), str)
    assert_type(model.stream("The "), Iterator[str])
    assert_type(model.bits_per_character("text"), float)
    assert_type(model.logprobs("text"), npt.NDArray[np.float32])
    assert_type(model.state("The ").restore({}), p2.State)
    assert_type(model.state().write(3), str)
    assert_type(model.state().snapshot(), dict[str, Any])
    model.generate(3)  # type: ignore[arg-type]


def make() -> None:
    assert_type(p2.__version__, str)
    assert_type(p2.load("charlm.onnx", backend="native"), p2.Model)
    assert_type(p2.train("book.txt", hidden=512), Result)
    assert_type(p2.tokenize("book.txt", "book.tokens"), Tokenized)
    assert_type(p2.import_model("model.pt", vocab="characters.json"), Imported)
    assert_type(p2.export("artifacts/charlm", precision="float16"), Exported)
    assert_type(p2.parity([Path("charlm.onnx")], steps=50), Outcome)
    assert_type(p2.evaluate(["a.onnx", "b.onnx"], "book.txt", window=256), Evaluation)
    p2.export(3)  # type: ignore[arg-type]
    p2.parity(stepz=3)  # type: ignore[call-arg]


def refuse(error: p2.UsageError) -> p2.P2Error:
    return error
