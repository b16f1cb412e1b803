"""The small ONNX reader and writer against the onnx package."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from p2.runtime.onnx_format import Graph, Model, Node, Value, encode_model
from p2.runtime.onnx_tensors import FLOAT, INT64, Tensor
from p2.runtime.protobuf import Damaged, encode

DTYPES = [np.float32, np.float16, np.int8, np.uint8, np.int64, np.bool_]


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.text(min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_tensors_round_trip_through_onnx(dtype, shape, name, seed):
    array = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    ours = Tensor.of(name, array)
    theirs = onnx.TensorProto.FromString(ours.encoded())
    assert theirs.name == name
    np.testing.assert_array_equal(numpy_helper.to_array(theirs), array)
    back = Tensor.parse(numpy_helper.from_array(array, name).SerializeToString())
    assert (back.name, back.shape) == (name, tuple(shape))
    np.testing.assert_array_equal(back.array(), array)


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=9))
def test_int4_reads_as_onnx_packs_it(values):
    theirs = helper.make_tensor("w", TensorProto.INT4, [len(values)], values)
    raw = numpy_helper.to_array(theirs)  # unpacked by onnx itself
    packed = helper.make_tensor("w", TensorProto.INT4, [len(values)], _pack(values), raw=True)
    assert Tensor.parse(packed.SerializeToString()).array().tolist() == raw.astype(np.int8).tolist()


def _pack(values: list[int]) -> bytes:
    nibbles = [value & 15 for value in values] + [0] * (len(values) % 2)
    return bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))


def test_nodes_keep_attributes_they_do_not_understand():
    node = helper.make_node(
        "Conv", ["a", "b"], ["c"], domain="d", pads=[1, 2], auto_pad="SAME", group=3, alpha=0.5
    )
    parsed = Node.parse(node.SerializeToString())
    assert (parsed.op, parsed.inputs, parsed.outputs, parsed.domain) == ("Conv", ["a", "b"], ["c"], "d")
    assert parsed.integer("group", 0) == 3
    assert parsed.integer("absent", 7) == 7
    again = onnx.NodeProto.FromString(parsed.encoded())
    assert sorted(a.SerializeToString() for a in again.attribute) == sorted(
        a.SerializeToString() for a in node.attribute
    )


def test_made_attributes_are_what_onnx_makes():
    ours = onnx.NodeProto.FromString(Node.make("X", ["a"], ["b"], axis=-1, count=2**40).encoded())
    found = {a.name: helper.get_attribute_value(a) for a in ours.attribute}
    assert found == {"axis": -1, "count": 2**40}


def test_a_model_made_here_passes_the_checker_and_runs():
    body = Graph(
        [Node.make("Add", ["s_in", "x"], ["s_out"]), Node.make("Identity", ["s_out"], ["y"])],
        {},
        [Value("s_in", FLOAT, (2,)), Value("x", FLOAT, (2,))],
        [Value("s_out", FLOAT, (2,)), Value("y", FLOAT, (2,))],
    )
    graph = Graph(
        [Node.make("Scan", ["start", "xs"], ["end", "ys"], body=body.encoded("body"), num_scan_inputs=1)],
        {"start": Tensor.of("start", np.ones(2, np.float32))},
        [Value("xs", FLOAT, ("n", 2))],
        [Value("end", FLOAT, (2,)), Value("ys", FLOAT, ("n", 2))],
    )
    data = encode_model(graph, opset=21)
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    from onnx.reference import ReferenceEvaluator

    xs = np.arange(6, dtype=np.float32).reshape(3, 2)
    end, ys = ReferenceEvaluator(onnx.load_model_from_string(data)).run(None, {"xs": xs})
    np.testing.assert_array_equal(ys, 1 + np.cumsum(xs, axis=0))
    np.testing.assert_array_equal(end, ys[-1])


def test_values_round_trip():
    for value in (Value("x", INT64, ("batch", 3)), Value("scalar", FLOAT, ())):
        assert Value.parse(value.encoded()) == value
        theirs = onnx.ValueInfoProto.FromString(value.encoded())
        assert Value.parse(theirs.SerializeToString()) == value


@pytest.fixture(scope="module")
def whole() -> bytes:
    weights = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    helper.set_model_props(model, {"key": "välue"})
    return model.SerializeToString()


def test_reads_a_model_that_onnx_wrote(whole):
    model = Model.parse(whole)
    assert model.opset == 21
    assert model.metadata == {"key": "välue"}
    assert model.graph.nodes[0].op == "MatMul"
    assert model.graph.inputs == [Value("x", FLOAT, ("n", 3))]
    assert model.graph.tensors["w"].shape == (3, 4)


def test_every_truncation_is_damage_or_a_smaller_model_never_a_crash(whole):
    whole_names = set(Model.parse(whole).graph.tensors)
    for end in range(len(whole)):
        try:
            shorter = Model.parse(whole[:end])
        except Damaged:
            continue
        # Cut exactly between two top-level fields: what is there is whole.
        assert set(shorter.graph.tensors) == whole_names


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        Model.parse(data)


def test_weights_in_another_file_are_refused():
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    with pytest.raises(Damaged, match="lie in another file"):
        Tensor.parse(tensor.SerializeToString())


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.INT8, [-128, -1, 0, 127]),
        (TensorProto.UINT8, [0, 127, 128, 255]),
        (TensorProto.INT32, [-(2**31), -1, 300, 2**31 - 1]),
        (TensorProto.INT64, [-(2**63), -1, 300, 2**63 - 1]),
        (TensorProto.BOOL, [True, False, True, True]),
        (TensorProto.FLOAT, [0.0, -1.5, 1e-30, 3e38]),
        (TensorProto.DOUBLE, [0.0, -1.5, 1e-300, 3e300]),
        (TensorProto.FLOAT16, [0.0, -1.5, 6e-8, 65504.0]),
        (TensorProto.BFLOAT16, [0.0, -1.5, 1e-30, 3e38]),
        (TensorProto.INT4, [-8, -1, 0, 7]),
        (TensorProto.FLOAT8E4M3FN, [0.0, -1.5, 448.0, 2.0**-9]),
    ],
)
def test_constants_in_the_fields_for_single_types(kind, values):
    tensor = helper.make_tensor("a", kind, [2, 2], values)
    assert not tensor.raw_data
    tensor.data_location = TensorProto.DEFAULT  # said aloud, as some tools do
    found = Tensor.parse(tensor.SerializeToString()).array()
    np.testing.assert_array_equal(found, numpy_helper.to_array(tensor).astype(found.dtype))


@pytest.mark.parametrize("octets", [b"\x80", b"\x01\xff", b"\xff" * 10 + b"\x01", b"\x01\x02\x03"])
def test_hostile_numbers_of_a_packed_field(octets):
    """Cut off, too long, or of another count than the shape says."""
    message = encode(1, 2) + encode(2, TensorProto.INT8) + encode(8, "a") + encode(5, octets)
    with pytest.raises(Damaged):
        Tensor.parse(message)


def test_weights_in_another_file_are_said_to_be():
    tensor = helper.make_tensor("a", TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(Damaged, match="lie in another file"):
        Tensor.parse(tensor.SerializeToString())
