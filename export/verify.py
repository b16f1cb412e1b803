"""Compare a step graph with the eager model over hundreds of recurrent steps.

A step that is right once can still drift: state wired to the wrong input, a state in too few bits.
So the graph runs on its own states, in plain ONNX Runtime with nothing of p2's runtime in
between, for as long as the eager model does, on text that the model itself would write.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..spec.agreement import LIMITS, Agreement, agreement
from ..spec.engine import Engine
from ..spec.errors import BackendMissing, ToleranceExceeded
from ..spec.noise import first_tokens, gumbel
from ..spec.sampling import Sampling
from ..spec.shell import install

STEPS = 256
BATCH = 2  # more than one row, so that mixed-up rows would show


def verify(model: bytes, reference: Engine, precision: str, steps: int = STEPS) -> Agreement:
    """Run the step graph and the reference side by side.

    Args:
        model: a serialised step graph.
        reference: the eager model.
        precision: whose limits to apply (`spec.agreement.LIMITS`).
        steps: recurrent steps, at least 256 to mean anything.

    Returns:
        the measured agreement over ``BATCH * steps`` characters.

    Raises:
        ToleranceExceeded: the graph does not say the same.
        BackendMissing: ONNX Runtime is not installed.
    """
    tokens = sampled_tokens(reference, steps)
    expected = reference.feed(reference.zero_state(BATCH), tokens, logits=True)
    assert expected is not None
    measured = agreement(expected, _run(model, reference, tokens))
    limits = LIMITS[precision]
    if not measured.within(limits):
        raise ToleranceExceeded(
            f"the {precision} graph is out of tolerance over {steps} steps, so it was not written:"
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
