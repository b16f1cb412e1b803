"""The form of the products in a plan for one text: matrix products, or sums (`matvec`).

Sums are fewer kernels, and get through the weights more slowly. On one H100 (TensorRT 8.6, LSTM of two
layers, 96 characters) a character took, in microseconds:

    million weights (hidden)        0.21 (128)    12.7 (1024)
    float32: matrix products, sums  20.4, 16.9    39.1, 107
    float16: matrix products, sums  30.4, 27.4    47.1, 99.7

No size between was measured. A straight line through both, a constant and a share for every weight, makes the
forms even at 0.82 million weights in float32 and 0.88 in float16: at two layers of 256. That is the rule
where nothing can be measured. Other cells, precisions and GPUs go by it too, unmeasured.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from ..contract.card import Card, step_shapes
from ..contract.noise import Address
from ..contract.sampling import Sampling
from ..runtime.nvidia import Library
from ..runtime.tensorrt.plan_file import Plan

SUMS, PRODUCTS = "sums", "matrix products"

EVEN = 850_000  # weights
_CLOSE = 4 * EVEN  # where sums, by the same lines, take 1.3 (float16) to 1.6 times as long
_CHARACTERS = 512  # of a turn: eight launches
_TURNS = 7


def weights(card: Card) -> int:
    """Weights that one step multiplies by."""
    return sum(math.prod(shape) for name, shape in step_shapes(card).items() if name.startswith("w_"))


def by_size(card: Card) -> str:
    """The form to take where nothing can be measured."""
    return SUMS if weights(card) <= EVEN else PRODUCTS


def worth_measuring(card: Card) -> bool:
    """Whether either form could win: a build of the larger of these models takes minutes."""
    return weights(card) <= _CLOSE


def times(plans: Mapping[str, Plan], library: Library, gpu: str) -> dict[str, float]:
    """Microseconds that one character of one text takes, by form of the products.

    Args:
        plans: by form; in memory is enough.
        library: the one that built them.
        gpu: name of the GPU.

    Raises:
        P2Error: one of them does not run here.
    """
    from ..runtime.gpu_device import Device
    from ..runtime.tensorrt.engine import PlanEngine

    first, start = np.zeros(1, np.int64), Address(0, (0,), 0)
    with contextlib.ExitStack() as engines:
        writers: dict[str, Callable[[], object]] = {}
        for form, plan in plans.items():
            engine = PlanEngine(plan, library, Device(), gpu)
            engines.callback(engine.close)

            def write(engine: PlanEngine = engine) -> None:
                engine.draw(engine.zero_state(1), first, start, _CHARACTERS, Sampling(0))

            writers[form] = write
        return {form: seconds / _CHARACTERS * 1e6 for form, seconds in best(writers).items()}


def best(writers: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest time of each in seconds, taken in turns; the first call of each does not count."""
    for write in writers.values():
        write()
    found = dict.fromkeys(writers, math.inf)
    for _ in range(_TURNS):
        for form, write in writers.items():
            started = time.perf_counter()
            write()
            found[form] = min(found[form], time.perf_counter() - started)
    return found
