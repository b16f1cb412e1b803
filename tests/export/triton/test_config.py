"""What config.pbtxt says, read by Triton's own ModelConfig, beside the files that it is about."""

from __future__ import annotations

import onnxruntime
import pytest

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from p2.contract.plan import Sidecar
from p2.export.triton import config

from .simulator import Steps, read_config

KINDS = {"tensor(int64)": pb.TYPE_INT64, "tensor(float)": pb.TYPE_FP32, "tensor(float16)": pb.TYPE_FP16}


def parsed(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize(("cell", "precision"), [("gru", "int8"), ("lstm", "float32"), ("lstm", "float16")])
def test_the_step_is_described_as_onnxruntime_reads_it(cell, precision, card_of, write_step):
    card = card_of(cell, precision=precision)
    session = onnxruntime.InferenceSession(write_step(card), providers=["CPUExecutionProvider"])
    found = parsed(config.onnx_step(card, "float16" if precision == "float16" else "float32"))
    assert found.backend == "onnxruntime"
    assert found.max_batch_size == 64
    states = found.sequence_batching.state
    inputs = {one.name: (KINDS[one.type], one.shape[1:]) for one in session.get_inputs()}
    outputs = {one.name: (KINDS[one.type], one.shape[1:]) for one in session.get_outputs()}
    # A scalar of the model is [batch, 1] for clients: Triton has no empty dims.
    shape = {
        one.name: list(one.reshape.shape if one.HasField("reshape") else one.dims) for one in found.input
    }
    said = {one.name: (one.data_type, shape[one.name]) for one in found.input}
    assert said | {one.input_name: (one.data_type, list(one.dims)) for one in states} == inputs
    said = {one.name: (one.data_type, list(one.dims)) for one in found.output}
    assert said | {one.output_name: (one.data_type, list(one.dims)) for one in states} == outputs
    assert all(list(one.dims) for one in [*found.input, *found.output])


def test_states_pair_by_their_places_in_alphabetical_order_too(card_of):
    """Which is how Triton pairs them, whatever the configuration says."""
    for cell in ("lstm", "gru"):
        states = parsed(config.onnx_step(card_of(cell, layers=12), "float32")).sequence_batching.state
        inputs, outputs = (
            sorted(getattr(one, f"{end}_name") for one in states) for end in ("input", "output")
        )
        assert len(states) == (24 if cell == "lstm" else 12)
        pairs = {one.input_name: one.output_name for one in states}
        assert pairs == dict(zip(inputs, outputs, strict=True))
        assert all(given == taken.replace("_in", "_out") for taken, given in pairs.items())


@pytest.mark.parametrize(("version", "integer"), [("8.6.1.6", pb.TYPE_INT32), ("10.1.0.27", pb.TYPE_INT64)])
def test_a_plan_has_the_choice_and_every_profile(version, integer, card_of):
    card = card_of("lstm", layers=1, hidden=16)
    profiles = ((1, 1, 1), (1, 8, 32))
    sidecar = Sidecar(card, "tensorrt", version, "", "", 1, "float16", profiles, {}, "")
    found = parsed(config.plan_step(sidecar))
    assert found.platform == "tensorrt_plan"
    assert found.max_batch_size == 32
    assert list(found.instance_group[0].profile) == ["0", "1"]
    assert {one.name: (one.data_type, *one.dims) for one in found.input} == {
        "token": (integer, 1),
        "noise": (pb.TYPE_FP32, card.vocab),
        "filters": (pb.TYPE_FP32, 4),
    }
    assert {one.name: one.data_type for one in found.output} == {"logits": pb.TYPE_FP32, "next": integer}
    assert {one.data_type for one in found.sequence_batching.state} == {pb.TYPE_FP16}


def test_the_text_model_is_decoupled(exported):
    found = read_config(exported / "charlm")
    assert found.backend == "python"
    assert found.model_transaction_policy.decoupled
    assert found.max_batch_size == 0
    assert [one.name for one in found.input if not one.optional] == ["prompt"]


def test_a_repository_can_be_loaded(exported):
    steps = Steps(exported / "charlm_step")
    assert steps.slots >= steps.config.max_batch_size
    assert steps.config.sequence_batching.max_sequence_idle_microseconds == 60_000_000
