"""The step as TensorRT before 10 reads it: operator set 17, the same results."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from p2.contract.choice import filter_row
from p2.contract.sampling import Sampling
from p2.export.choice_stage import add_choice
from p2.export.matvec import as_sums
from p2.export.opset import at_opset


def run(model, feeds):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip((value.name for value in session.get_outputs()), session.run(None, feeds), strict=True))


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_older_operator_set_says_the_same(precision, sums, cell, card_of, write_step):
    card = card_of(*cell, precision=precision, layers=2)
    model = onnx.load(write_step(card))
    add_choice(model.graph, card)
    before = model.SerializeToString()
    newer = as_sums(model) if sums else model
    older = at_opset(newer, 17)
    assert model.SerializeToString() == before
    onnx.checker.check_model(older, full_check=True)
    assert [(entry.domain, entry.version) for entry in older.opset_import] == [("", 17)]
    rng, batch = np.random.default_rng(0), 1 if sums else 3
    kind = np.float16 if precision == "float16" else np.float32
    feeds = {f"{name}_in": rng.uniform(-1, 1, (batch, card.hidden)).astype(kind) for name in card.state_names}
    feeds |= {"token": np.arange(batch), "noise": rng.gumbel(size=(batch, card.vocab)).astype(np.float32)}
    feeds["filters"] = np.tile(filter_row(Sampling(top_k=7, top_p=0.9, min_p=0.01), card.vocab), (batch, 1))
    expected, found = run(newer, feeds), run(older, feeds)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
