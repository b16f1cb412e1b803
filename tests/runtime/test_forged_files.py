"""Files with a right checksum that make no sense: a sentence, from every reader and every backend here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import tracemalloc
import types

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from p2.commands.inspection import describe
from p2.contract.errors import ContractError, P2Error
from p2.contract.noise import Address
from p2.contract.sampling import Sampling
from p2.runtime import native
from p2.runtime.onnx_format import MOST_METADATA, Model, Node
from p2.runtime.onnx_tensors import Tensor
from p2.runtime.onnxruntime import fitting
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.onnxruntime.gpu import OnnxGpuEngine
from p2.runtime.onnxruntime.providers import STAND_IN
from p2.runtime.protobuf import MOST_FIELDS, Damaged, encode
from p2.runtime.step_file import open_step

from ..conftest import CELLS, make_card, step_bytes
from .forging import another_card, forged, one_dimension, sign

PRECISIONS = ("float32", "float16", "bfloat16", "float8", "int8", "int4")


def good(number: int) -> bytes:
    """A small step file: every cell in every precision by turns."""
    return step_bytes(make_card(*CELLS[number % 4], precision=PRECISIONS[number % 6]))


def use(engine) -> None:
    """Read and write a little, for one text and for three."""
    vocab = engine.card.vocab
    for batch in (1, 3):
        state, last = engine.zero_state(batch), np.zeros(batch, np.int64)
        engine.feed(state, np.full((batch, 3), vocab - 1, np.int64), logits=True)
        for sampling in (Sampling(), Sampling(top_k=2, top_p=0.9, min_p=0.01)):
            if hasattr(engine, "draw"):
                engine.draw(state, last, Address(1, range(batch), 0), 3, sampling)
            else:
                engine.decode(state, last, np.zeros((3, batch, vocab), np.float32), sampling)
    engine.close()


def engines(step):
    if not native.problem():
        from p2.runtime.native.engine import NativeEngine

        yield lambda: NativeEngine(step, 1)
    yield lambda: OnnxEngine(step, 1)
    yield lambda: OnnxGpuEngine(step, STAND_IN)


def in_a_sentence(call) -> None:
    """It works, or the refusal is one line."""
    with contextlib.suppress(P2Error):
        try:
            call()
        except P2Error as error:
            if "\n" in str(error):
                raise AssertionError(str(error)) from error
            raise


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 11), seed=st.integers(0, 2**32))
def test_a_forged_file_is_opened_or_refused_in_a_sentence(number, seed, tmp_path):
    path = tmp_path / "charlm.onnx"
    path.write_bytes(forged(good(number), random.Random(seed)))
    in_a_sentence(lambda: [in_a_sentence(lambda make=make: use(make())) for make in engines(open_step(path))])


@pytest.mark.parametrize("hidden", [True, None, 1.5, "x", [], 2**70, {}])
def test_a_file_that_claims_anything_is_forged_once_more(hidden):
    for seed in range(30):
        model = onnx.load_model_from_string(good(0))
        next(entry for entry in model.metadata_props if entry.key == "p2.hidden").value = json.dumps(hidden)
        another_card(model, random.Random(seed))
        assert sign(model, nodes=True)


@pytest.mark.parametrize("size", [2**63 - 1, -(2**63), 0])
def test_any_size_is_forged_once_more(size):
    for seed in range(30):
        model = onnx.load_model_from_string(good(0))
        for tensor in model.graph.initializer:
            tensor.dims[:] = [size] * len(tensor.dims)
        one_dimension(model, random.Random(seed))
        assert sign(model, nodes=True)


def test_what_is_forged_was_good_before(tmp_path):
    path = tmp_path / "charlm.onnx"
    for number in range(12):
        path.write_bytes(sign(onnx.load_model_from_string(good(number)), nodes=True))
        step = open_step(path)
        assert step.as_traced
        use(next(engines(step))())


def tensor_of(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def replace(model, name, array):
    tensor_of(model, name).CopyFrom(numpy_helper.from_array(array, name))


def resized(name, *shape):
    def change(model):
        replace(model, name, np.full(shape, 0.5, np.float32))

    return change


def dims(name, *sizes):
    def change(model):
        tensor = tensor_of(model, name)
        del tensor.dims[:]
        tensor.dims.extend(sizes)

    return change


def valued(name, value):
    def change(model):
        array = numpy_helper.to_array(tensor_of(model, name)).copy()
        array.flat[array.size // 2] = value
        replace(model, name, array)

    return change


def removed(name):
    return lambda model: model.graph.initializer.remove(tensor_of(model, name))


def retyped(name, kind):
    def change(model):
        array = numpy_helper.to_array(tensor_of(model, name))
        replace(model, name, array.astype(kind))

    return change


def added(name):
    return lambda model: model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((32, 96), np.float32), name)
    )


FORGED = {
    # precision, change, what the sentence says
    "short table": ("float32", resized("table", 29, 96), r"table must be \[30, 96\], and are \[29, 96\]"),
    "wide table": ("float32", resized("table", 30, 97), r"table must be \[30, 96\]"),
    "narrow output": ("float32", resized("w_out", 32, 8), r"w_out must be \[32, 30\], and are \[32, 8\]"),
    "flat matrix": ("float32", dims("w_00", 32 * 96), r"w_00 must be \[32, 96\], and are \[3072\]"),
    "turned matrix": ("float32", dims("w_00", 96, 32), r"w_00 must be \[32, 96\], and are \[96, 32\]"),
    "no bias": ("float32", removed("b_hn_00"), "b_hn_00 are missing"),
    "no scale": ("int8", removed("w_00_scale"), "w_00_scale are missing"),
    "short scale": ("int8", resized("w_00_scale", 95), r"w_00_scale must be \[96\] or \[2, 96\]"),
    "long scale": ("int4", resized("w_out_scale", 65), r"w_out_scale must be \[30\]"),
    "blocks that do not divide": ("int4", resized("w_00_scale", 3, 96), "w_00_scale must be"),
    "zero scale": ("int8", valued("w_00_scale", 0), "w_00_scale must be positive"),
    "negative scale": ("int4", valued("w_00_scale", -0.1), "w_00_scale must be positive"),
    "NaN scale": ("float8", valued("w_00_scale", np.nan), "w_00_scale must be positive"),
    "infinite scale": ("int8", valued("w_00_scale", np.inf), "w_00_scale must be below"),
    "NaN": ("float32", valued("table", np.nan), "table hold NaN or an infinity"),
    "an enormous weight": ("float32", valued("w_00", 1e25), "w_00 hold NaN .* or a number beyond 1e"),
    "an enormous bias": ("bfloat16", valued("b_out", -1e25), "b_out hold NaN"),
    "a logit of float16": ("float16", valued("w_out", 65504), "w_out are too large: logits in float16"),
    "an enormous scale": ("float8", valued("w_out_scale", 1e25), "w_out_scale hold NaN"),
    "infinity": ("float16", valued("b_out", -np.inf), "b_out hold NaN or an infinity"),
    "other type": ("float32", retyped("w_00", np.float16), "w_00 must be float32, and are float16"),
    "integers": ("float16", retyped("table", np.int8), "table must be float16, and are int8"),
    "both forms": ("int8", added("w_00"), "weights w_00 that its precision, int8, does not have"),
    "negative size": ("float32", dims("w_00", -32, -96), "have too many dimensions, or a negative one"),
    "overflow": ("float32", dims("w_00", 2**32, 2**32), "do not have the size"),
    "empty and huge": ("float32", dims("w_00", 0, 2**62), "do not have the size"),
    "many dimensions": ("float32", dims("w_00", *[1] * 40, 32, 96), "too many dimensions"),
    "unknown type": ("float32", lambda m: setattr(tensor_of(m, "w_00"), "data_type", 99), "element type 99"),
    "a value twice": (
        "float32",
        lambda m: m.graph.input.append(m.graph.input[0]),
        "it has an input twice",
    ),
}  # fmt: skip


@pytest.fixture
def forge(tmp_path, card_of):
    """Write a step of a GRU with one layer of 32, changed and signed again."""

    def write(precision, change):
        model = onnx.load_model_from_string(step_bytes(card_of("gru", layers=1, precision=precision)))
        change(model)
        path = tmp_path / "charlm.onnx"
        path.write_bytes(sign(model, nodes=True))
        return path

    return write


@pytest.mark.parametrize("name", FORGED)
def test_weights_that_do_not_fit_the_card_are_named(name, forge):
    precision, change, words = FORGED[name]
    with pytest.raises(ContractError, match=words) as caught:
        open_step(forge(precision, change))
    assert "\n" not in str(caught.value)


def another_number(model):
    node = next(n for n in model.graph.node if n.op_type == "Split" and len(n.input) == 1)
    kept = [one for one in node.attribute if one.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("num_outputs", len(node.output) - 1)])


def no_sizes(model):
    node = next(n for n in model.graph.node if n.op_type == "Split" and len(n.input) == 2)
    replace(model, node.input[1], np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("change", "words"),
    [(another_number, "says that it has another number of outputs"), (no_sizes, "has no numbers")],
)
def test_what_onnxs_own_library_does_not_survive_is_refused(change, words, card_of, tmp_path):
    """Its assertions end the process: ONNX Runtime must not see it."""
    model = onnx.load_model_from_string(step_bytes(card_of("lstm", layers=1)))
    change(model)
    kept = {one.key: one.value for one in model.metadata_props if one.key != "p2.nodes_sha256"}
    onnx.helper.set_model_props(model, kept)  # its nodes are anybody's
    path = tmp_path / "charlm.onnx"
    path.write_bytes(sign(model, nodes=False))
    with pytest.raises(ContractError, match=words):
        open_step(path)


def test_a_constant_that_nobody_reads_by_its_name_goes_the_general_way(forge):
    """Two equal constants that are one: what an optimiser, or tracing, may leave."""

    def merge(model):
        model.graph.initializer.append(
            numpy_helper.from_array(numpy_helper.to_array(tensor_of(model, "b_hn_00")), "b")
        )
        model.graph.initializer.remove(tensor_of(model, "b_hn_00"))
        for node in model.graph.node:
            node.input[:] = ["b" if name == "b_hn_00" else name for name in node.input]

    path = forge("float32", lambda model: None)
    expected = OnnxEngine(open_step(path), 1)
    step = open_step(forge("float32", merge))
    assert not step.as_traced
    text = np.random.default_rng(0).integers(0, 30, (1, 20))
    logits = [e.feed(e.zero_state(1), text, logits=True) for e in (expected, OnnxEngine(step, 1))]
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_inspect_names_types_that_it_does_not_know(forge):
    def listed(model):  # a constant may be listed among the inputs, with a type of its own
        value = model.graph.input.add()
        value.name, value.type.tensor_type.elem_type = "table", 77

    assert "77" in describe(str(forge("float32", listed)))["inputs"]["table"]


def test_onnx_runtimes_own_words_come_as_one_sentence(forge, capfd):
    def outside(model):  # it is only found out when it runs
        model.graph.initializer.append(numpy_helper.from_array(np.array([99], np.int64), "far"))
        gather = next(node for node in model.graph.node if node.op_type == "Gather")
        gather.input[1] = "far"

    step = open_step(forge("float32", outside))
    assert not step.as_traced or native.problem() is None
    engine = OnnxGpuEngine(step, STAND_IN)
    with pytest.raises(P2Error, match=r"could not run .*charlm\.onnx"):
        engine.feed(engine.zero_state(1), np.zeros((1, 1), np.int64))
    assert not capfd.readouterr().err


CLAIMS = {
    "a size": encode(7, encode(5, encode(1, 2**40) + encode(1, 2**40) + encode(2, 1))),
    "dimensions": encode(7, encode(5, encode(1, b"\x01" * 100_000) + encode(2, 1))),
    "a length": encode(7, encode(1, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
    "a number": b"\x0a" + b"\xff" * 100,
    "metadata": encode(14, encode(1, "p2.cell") + encode(2, bytes(MOST_METADATA + 1))),
    "a name": encode(7, encode(5, encode(8, bytes(1 << 20)))),
    "fields": encode(7, encode(1, encode(4, "Add") + encode(15, 0) * MOST_FIELDS)),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_a_file_claims_is_not_believed(claim):
    with pytest.raises(Damaged):
        Model.parse(CLAIMS[claim])


@pytest.mark.parametrize(
    "part",
    [encode(1, b""), encode(11, b""), encode(1, encode(1, "a")), encode(5, encode(1, 0) + encode(2, 1))],
)
def test_two_bytes_of_a_file_do_not_take_much_memory(part):
    """The most parts that a file may have fit into 64 MiB."""
    count = 500
    tracemalloc.start()
    try:
        Model.parse(encode(7, encode(1, encode(4, "Add")) + part * count))
        assert tracemalloc.get_traced_memory()[1] / count * MOST_FIELDS < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("backend", [0, 1])
@pytest.mark.parametrize("how", ["truncated", "overwritten", "removed"])
def test_a_file_may_change_under_a_running_engine(how, backend, forge):
    """Its pages are not mapped: reading them would end the process (SIGBUS), or change the text."""
    path = forge("float32", lambda model: None)
    size = path.stat().st_size
    made = list(engines(open_step(path)))[:2]
    if backend >= len(made):
        pytest.skip("no compiled decoder here")
    text = np.random.default_rng(0).integers(0, 30, (1, 20))
    engine = made[backend]()
    expected = engine.feed(engine.zero_state(1), text, logits=True)
    engine.close()
    engine = made[backend]()
    with path.open("r+b") as file:
        file.truncate(0 if how == "truncated" else size)
        if how == "overwritten":
            file.write(b"\0" * size)
    if how == "removed":
        path.unlink()
    np.testing.assert_array_equal(engine.feed(engine.zero_state(1), text, logits=True), expected)


SPREADS = [
    # scales, axis, block, whether they fit a matrix [4, 6]
    ((), 1, 0, True),
    ((6,), 1, 0, True),
    ((6,), -1, 0, True),
    ((4,), 0, 0, True),
    ((2, 6), 0, 2, True),
    ((5,), 1, 0, False),
    ((6,), 7, 0, False),
    ((1, 6), 0, 2**62, False),
    ((3, 6), 0, -1, False),
    ((4, 6, 1), 1, 0, False),
]


@pytest.mark.parametrize(("shape", "axis", "block", "fits"), SPREADS)
def test_scales_that_do_not_spread_are_left_to_onnx_runtime(shape, axis, block, fits):
    node = Node.make("DequantizeLinear", ["q", "s"], ["y"], axis=axis, block_size=block)
    tensors = {"q": Tensor.of("q", np.ones((4, 6), np.int8)), "s": Tensor.of("s", np.ones(shape, np.float32))}
    assert fitting._fold_constants([node], tensors) == ([] if fits else [node])
    assert ("y" in tensors) == fits


def test_a_graph_that_computes_another_shape_than_it_says_is_named(forge, monkeypatch):
    step = dataclasses.replace(open_step(forge("float32", lambda model: None)), as_traced=False)
    engine = OnnxEngine(step, 1)
    session = types.SimpleNamespace(run=lambda *_: [np.zeros((1, 32), np.float32), np.zeros((), np.float32)])
    monkeypatch.setattr(engine, "_open_session", lambda *_: session)
    with pytest.raises(ContractError, match=r"a result must be \[3, 1, 30\], and its nodes compute \[\]"):
        engine.feed(engine.zero_state(1), np.zeros((1, 3), np.int64), logits=True)
