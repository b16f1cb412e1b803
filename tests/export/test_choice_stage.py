"""The step with the choice behind it, on ONNX Runtime: the graph that becomes a plan."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from p2.contract.card import PRECISIONS
from p2.contract.choice import filter_row
from p2.contract.errors import ContractError
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.export.choice_stage import add_choice

SAMPLINGS = [
    Sampling(0),
    Sampling.from_tau(2),
    Sampling(top_k=3),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(temperature=2, top_k=7, top_p=0.9, min_p=0.02),
]


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def steps(write_step, card_of):
    """The bare step and the step that chooses, loaded: (card, bare, choosing)."""

    def load(cell=("lstm", "after"), precision="float32"):
        card = card_of(*cell, precision=precision)
        bare = onnx.load(write_step(card))
        choosing = onnx.ModelProto()
        choosing.CopyFrom(bare)
        add_choice(choosing.graph, card)
        onnx.checker.check_model(choosing, full_check=True)
        return card, session(bare), session(choosing)

    return load


def drive(card, bare, choosing, sampling, count=40, batch=3):
    """Write with the graph's own choices, and compare each with what the host would have chosen."""
    names = [value.name for value in choosing.get_outputs()]
    inputs = {value.name: value for value in bare.get_inputs()}
    float_type = {"tensor(float16)": np.float16}.get(inputs["h_00_in"].type, np.float32)
    state = {f"{name}_in": np.zeros((batch, card.hidden), float_type) for name in card.state_names}
    token = np.arange(batch)
    filters = np.tile(filter_row(sampling, card.vocab), (batch, 1))
    for row in scale_noise(gumbel(5, tuple(range(batch)), 0, count, card.vocab), sampling):
        feeds = {"token": token, **state}
        plain = dict(zip((v.name for v in bare.get_outputs()), bare.run(None, feeds), strict=True))
        whole = dict(zip(names, choosing.run(None, feeds | {"noise": row, "filters": filters}), strict=True))
        for name, value in plain.items():
            np.testing.assert_array_equal(whole[name], value)  # the step itself is what it was
        token = whole["next"]
        np.testing.assert_array_equal(token, choose(plain["logits"], row, sampling))
        state = {f"{name}_in": whole[f"{name}_out"] for name in card.state_names}


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_every_setting_chooses_what_the_definition_chooses(sampling, steps):
    drive(*steps(), sampling)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_cell_and_precision(cell, precision, steps):
    drive(*steps(cell, precision), Sampling(temperature=0.8, top_k=9, top_p=0.95), count=12)


def test_streams_may_have_settings_of_their_own(steps):
    card, _, choosing = steps()
    settings = [Sampling(0), Sampling(top_k=2), Sampling(top_p=0.5)]
    noise = gumbel(3, (0, 1, 2), 0, 1, card.vocab)[0]
    noise[0] = 0  # greedy
    feeds = {f"{name}_in": np.zeros((3, card.hidden), np.float32) for name in card.state_names}
    feeds |= {"token": np.array([4, 5, 6]), "noise": noise}
    feeds["filters"] = np.stack([filter_row(one, card.vocab) for one in settings])
    chosen, logits = choosing.run(["next", "logits"], feeds)
    for row, one in enumerate(settings):
        assert chosen[row] == choose(logits[row : row + 1], noise[row : row + 1], one)[0]


@pytest.mark.rtx
def test_a_vocabulary_too_large_to_sort_on_the_device(write_step, card_of, tmp_path):
    # TensorRT's TopK ends at 3840; nothing is sorted here.
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    from p2.export.builder import build_plan

    card = card_of("rnn", layers=1, hidden=16, vocabulary="".join(map(chr, range(0x4E00, 0x4E00 + 4000))))
    build_plan(write_step(card), card, tmp_path / "a.plan", engine="tensorrt-rtx")


@pytest.mark.rtx
def test_the_card_of_another_vocabulary_is_refused(write_step, card_of, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    from p2.export.builder import build_plan

    card = card_of()
    with pytest.raises(ContractError, match=r"breaks the step contract \(tensor logits\)"):
        build_plan(write_step(card), card.with_(vocabulary="abc"), tmp_path / "a.plan", engine="tensorrt-rtx")
