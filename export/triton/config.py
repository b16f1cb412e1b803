"""What ``config.pbtxt`` says of each model of a repository.

No file has a name in it: a model is called as its folder is, so a folder may be renamed.

The step's states are Triton's implicit states. It pairs the outputs with the inputs by their places in
alphabetical order, whatever the file says; the contract's names are in one order with either ending. Batches
are formed by the strategy ``oldest``: a slot without a request takes no part in a step, as it would with
``direct``, and so no control input is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...contract.card import Card
from ...contract.choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE
from ...contract.plan import Sidecar

MAX_BATCH = 64  # texts in a step of the ONNX file, whose batch is open
MAX_SEQUENCES = 1024  # texts that an instance keeps the states of
IDLE_SECONDS = 60  # Triton's own second is less than a client may think

_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_LAST_WITHOUT_INT64 = 9  # TensorRT's major version


@dataclass(frozen=True)
class Tensor:
    """An input or an output, as a client sees it.

    Attributes:
        name: as the model has it.
        type: Triton's word for it.
        size: of a row.
        scalar: whether the model's own shape is ``[batch]``, where clients give ``[batch, 1]``.
        optional: whether a request may leave it out.
    """

    name: str
    type: str
    size: int
    scalar: bool = False
    optional: bool = False

    def __str__(self) -> str:
        more = " reshape { shape: [ ] }" * self.scalar + " optional: true" * self.optional
        return f'  {{ name: "{self.name}" data_type: {self.type} dims: [ {self.size} ]{more} }}'


def onnx_step(card: Card, float_type: str) -> str:
    """Of the step graph, for the ONNX Runtime backend.

    Args:
        card: its model.
        float_type: type of its states, ``float32`` or ``float16``.
    """
    inputs = [Tensor("token", "TYPE_INT64", 1, scalar=True)]
    outputs = [Tensor("logits", "TYPE_FP32", card.vocab)]
    return _step('backend: "onnxruntime"', MAX_BATCH, inputs, outputs, card, float_type)


def plan_step(sidecar: Sidecar) -> str:
    """Of a plan that chooses the next character, for the TensorRT backend."""
    card = sidecar.card
    integer = "TYPE_INT32" if int(sidecar.version.split(".")[0]) <= _LAST_WITHOUT_INT64 else "TYPE_INT64"
    inputs = [
        Tensor("token", integer, 1, scalar=True),
        Tensor(NOISE, "TYPE_FP32", card.vocab),
        Tensor(FILTERS, "TYPE_FP32", len(FILTER_COLUMNS)),
    ]
    outputs = [Tensor("logits", "TYPE_FP32", card.vocab), Tensor(NEXT, integer, 1, scalar=True)]
    most = max(profile[2] for profile in sidecar.profiles)
    profiles = ", ".join(f'"{number}"' for number in range(len(sidecar.profiles)))
    return _step(
        'platform: "tensorrt_plan"',
        most,
        inputs,
        outputs,
        card,
        sidecar.float_type,
        f" profile: [ {profiles} ]",
    )


def texts() -> str:
    """Of the text model, for the Python backend: a prompt comes in, pieces of the text go out."""
    inputs = [
        Tensor("prompt", "TYPE_STRING", 1),
        Tensor("length", "TYPE_INT32", 1, optional=True),
        Tensor("seed", "TYPE_UINT64", 1, optional=True),
        Tensor("stream", "TYPE_UINT64", 1, optional=True),
        Tensor("temperature", "TYPE_FP64", 1, optional=True),
        Tensor("tau", "TYPE_FP64", 1, optional=True),
        Tensor("greedy", "TYPE_BOOL", 1, optional=True),
        Tensor("top_k", "TYPE_INT32", 1, optional=True),
        Tensor("top_p", "TYPE_FP64", 1, optional=True),
        Tensor("min_p", "TYPE_FP64", 1, optional=True),
        Tensor("stop", "TYPE_STRING", -1, optional=True),
        Tensor("on_unknown", "TYPE_STRING", 1, optional=True),
    ]
    return "\n".join(
        [
            'backend: "python"',
            "max_batch_size: 0",
            "model_transaction_policy { decoupled: true }",
            _block("input", inputs),
            _block("output", [Tensor("text", "TYPE_STRING", 1)]),
            "instance_group [ { count: 1 kind: KIND_CPU } ]",
            "",
        ]
    )


def _step(
    backend: str,
    most: int,
    inputs: list[Tensor],
    outputs: list[Tensor],
    card: Card,
    float_type: str,
    instance: str = "",
) -> str:
    kind = _TYPES[float_type]
    states = [
        f'    {{ input_name: "{name}_in" output_name: "{name}_out"\n'
        f"      data_type: {kind} dims: [ {card.hidden} ]\n"
        f'      initial_state {{ name: "zero" data_type: {kind} dims: [ {card.hidden} ] zero_data: true }} }}'
        for name in card.state_names
    ]
    return "\n".join(
        [
            backend,
            f"max_batch_size: {most}",
            _block("input", inputs),
            _block("output", outputs),
            "sequence_batching {",
            f"  max_sequence_idle_microseconds: {IDLE_SECONDS * 1_000_000}",
            f"  oldest {{ max_candidate_sequences: {max(MAX_SEQUENCES, most)} }}",
            "  state [",
            ",\n".join(states),
            "  ]",
            "}",
            f"instance_group [ {{ count: 1{instance} }} ]",
            "",
        ]
    )


def _block(name: str, items: Iterable[Tensor]) -> str:
    return f"{name} [\n" + ",\n".join(map(str, items)) + "\n]"
