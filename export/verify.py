"""Compare a step graph with the eager model over hundreds of recurrent steps, and open it with every reader.

A step that is right once can still drift: state wired to the wrong input, a state in too few bits.
So the graph runs on its own states, in plain ONNX Runtime with nothing of p2's runtime in
between, for as long as the eager model does, on text that the model itself would write. Then the file
is opened as `p2 generate` opens it, by each backend of this machine's processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract.agreement import LIMITS, Agreement, agreement
from ..contract.engine import Engine, predictions
from ..contract.errors import BackendMissing, ToleranceExceeded
from ..contract.noise import first_tokens, gumbel
from ..contract.precisions import TABLE
from ..contract.sampling import Sampling
from ..contract.shell import install
from ..runtime.opening import open_step_engine, usable_backends

STEPS = 256
BATCH = 2  # more than one row, so that mixed-up rows would show
READ = 16  # of the steps, by every reader
WRITTEN = 4  # characters, by every reader

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verified:
    """A graph that says what the eager model says.

    Attributes:
        agreement: over all the steps.
        tokens: what was read, int64 ``[BATCH, steps]``.
        expected: eager PyTorch's logits, float32 ``[BATCH, steps, vocab]``.
        logits: the graph's, of the same shape.
    """

    agreement: Agreement
    tokens: npt.NDArray[np.int64]
    expected: Floats
    logits: Floats


def verify(model: bytes, reference: Engine, precision: str, steps: int = STEPS) -> Verified:
    """Run the step graph and the reference side by side.

    Args:
        model: a serialised step graph.
        reference: the eager model.
        precision: whose limits to apply (`contract.agreement.LIMITS`).
        steps: recurrent steps, at least 256 to mean anything.

    Raises:
        ToleranceExceeded: the graph does not say the same.
        P2Error: the eager model computes NaN or infinity.
        BackendMissing: ONNX Runtime is not installed.
    """
    tokens = sampled_tokens(reference, steps)
    expected = predictions(reference, tokens)
    logits = _run(model, reference, tokens)
    measured = _compare(expected, logits, precision, f"the {precision} graph")
    return Verified(measured, tokens, expected, logits)


def read_back(path: Path, verified: Verified, precision: str) -> None:
    """Open a finished file with every reader that can run here, read and write a little with each.

    Args:
        path: of the .onnx file.
        verified: what it has to say.
        precision: whose limits to apply.

    Raises:
        ToleranceExceeded: a reader does not say the same.
        P2Error: a reader does not open it.
    """
    tokens, expected = verified.tokens[:, :READ], verified.expected[:, :READ]
    for backend in usable_backends(path):
        engine = open_step_engine(path, threads=1, backend=backend)
        try:
            _compare(
                expected,
                predictions(engine, tokens),
                precision,
                f"the {precision} file, read by {engine.name},",
            )
            noise = np.zeros((WRITTEN, BATCH, engine.card.vocab), np.float32)
            engine.decode(engine.zero_state(BATCH), tokens[:, 0].copy(), noise, Sampling(0))
        finally:
            engine.close()


def _compare(expected: Floats, logits: Floats, precision: str, what: str) -> Agreement:
    steps = expected.shape[1]
    if not np.isfinite(logits).all():
        roomier = TABLE[precision].roomier
        raise ToleranceExceeded(
            f"{what} gives NaN or infinity within {steps} steps, where eager PyTorch gives numbers, so it"
            " was not written" + (f": choose --precision {roomier}, of float32's range" if roomier else "")
        )
    measured = agreement(expected, logits)
    limits = LIMITS[precision]
    if not measured.within(limits):
        raise ToleranceExceeded(
            f"{what} is out of tolerance over {steps} steps, so it was not written:"
            f" relative error {measured.relative:.2g} (limit {limits.relative:g}),"
            f" KL {measured.kl:.2g} nats (limit {limits.kl:g})"
        )
    return measured


def sampled_tokens(reference: Engine, steps: int) -> npt.NDArray[np.int64]:
    """Text that the model itself writes at temperature 1, int64 ``[BATCH, steps]``."""
    streams = range(BATCH)
    vocab = reference.card.vocab
    first = first_tokens(0, streams, vocab)
    noise = gumbel(0, streams, 1, steps - 1, vocab)
    rest = reference.decode(reference.zero_state(BATCH), first, noise, Sampling())
    return np.concatenate([first[:, None], rest], axis=1)


def _run(model: bytes, reference: Engine, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise BackendMissing(
            f"export checks what it writes with ONNX Runtime, which is not installed: {install('cpu')}"
        ) from error
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = reference.card.state_names
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    dtype = types[session.get_inputs()[1].type]
    states = [np.zeros((len(tokens), reference.card.hidden), dtype) for _ in names]
    wanted = ["logits", *(f"{name}_out" for name in names)]
    logits = []
    for column in tokens.T:
        feeds = {"token": np.ascontiguousarray(column)}
        feeds |= {f"{name}_in": state for name, state in zip(names, states, strict=True)}
        out, *states = session.run(wanted, feeds)
        logits.append(out)
    return np.stack(logits, axis=1)
