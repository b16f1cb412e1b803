"""The recurrent cells: their names, gates and states, and how the products of a layer go together.

Whoever needs a cell's equation has it under the cell's name (`docs/extending.md` says where); all others read
this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RESETS = ("after", "before")

# How the products of a layer go together (`contract.card.step_shapes`): one over [x, h] for all gates; those
# of the input and of the state apart, since a gate acts between them; the candidate's after the other gates.
JOINT, APART, STAGED = "joint", "apart", "staged"


@dataclass(frozen=True)
class Cell:
    """A cell, or one of its two forms if it has a reset gate.

    Attributes:
        key: the card's word for it.
        title: for people; ONNX's operator and torch.nn's module are called so as well.
        gates: a letter each, in the step's order: those with a sigmoid first, then those with a tanh.
        sigmoids: how many have a sigmoid.
        torch_gates: the same in the order of PyTorch's parameters.
        onnx_gates: the same in the order of ONNX's operator, whose c and h are the last here.
        keras_gates: the same in the order of Keras's kernels.
        states: kinds of state that a layer has.
        products: `JOINT`, `APART` or `STAGED`.
        reset: where a reset gate acts, one of `RESETS`; ``after`` where there is none.
        attributes: that ONNX's operator needs to compute this form.
    """

    key: str
    title: str
    gates: str
    sigmoids: int
    torch_gates: str
    onnx_gates: str
    keras_gates: str
    states: tuple[str, ...] = ("h",)
    products: str = JOINT
    reset: str = "after"
    attributes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The key, and where the reset acts if that is not the usual: ``gru-before``."""
        return self.key if self.reset == "after" else f"{self.key}-{self.reset}"

    @property
    def is_fused(self) -> bool:
        """Whether torch.nn and cuDNN have it: none has a product that waits for a gate."""
        return self.products != STAGED


# The compiled decoder numbers them in this order (decoder.h).
FORMS = (
    Cell("rnn", "RNN", "h", 0, "h", "h", "h"),
    Cell("lstm", "LSTM", "ifog", 3, "ifgo", "iofg", "ifgo", states=("h", "c")),
    Cell("gru", "GRU", "rzn", 2, "rzn", "zrn", "zrn", products=APART, attributes={"linear_before_reset": 1}),
    Cell("gru", "GRU", "rzn", 2, "rzn", "zrn", "zrn", products=STAGED, reset="before",
         attributes={"linear_before_reset": 0}),
)  # fmt: skip

CELLS = {form.key: form for form in FORMS if form.reset == "after"}  # by key, in their usual forms


def form(cell: str, reset: str) -> Cell:
    """The form of a cell; StopIteration if there is none."""
    return next(form for form in FORMS if (form.key, form.reset) == (cell, reset))


def order(gates: str, wanted: str) -> list[int]:
    """Where to find the gates that are wanted: ``order("ifgo", "ifog") == [0, 1, 3, 2]``."""
    return [gates.index(gate) for gate in wanted]
