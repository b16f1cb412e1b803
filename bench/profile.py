"""Where a step's time goes: ONNX Runtime's own profile of the decode loop, operator by operator.

Taking the time of every operator costs time itself, most for the smallest: the shares are what counts, not
their sum, which is why the loop is also timed without the profile.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.errors import UsageError
from ..contract.locks import scratch_folder
from ..contract.noise import gumbel
from ..contract.shell import printable
from ..render.terminal import titled
from ..runtime.locate import locate
from ..runtime.onnxruntime.compose import decode_body, decode_graph
from ..runtime.onnxruntime.engine import OnnxEngine
from ..runtime.onnxruntime.session import open_session
from ..runtime.step_file import open_step
from .options import MAX_BATCH

if TYPE_CHECKING:
    from rich.console import Console

SECONDS = 0.3
RUNS = 5


@dataclass(frozen=True)
class Operator:
    """All calls of one kind of operator in a step.

    Attributes:
        name: the operator.
        calls: in one step.
        us: microseconds in one step, under the profile.
        share: of all operators' time.
    """

    name: str
    calls: float
    us: float
    share: float


@dataclass(frozen=True)
class Profile:
    """One decode loop.

    Attributes:
        file: the step graph.
        batch: texts side by side.
        threads: processor threads.
        step_us: microseconds of a step without the profile, median.
        operators: the longest first.
    """

    file: str
    batch: int
    threads: int
    step_us: float
    operators: list[Operator]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def profile(name: str, batch: int, threads: int | None) -> Profile:
    """Profile the decode loop of a .onnx engine.

    Args:
        name: as given to ``--engine``.
        batch: texts side by side, >= 1.
        threads: processor threads; None takes the engine's own setting.

    Raises:
        UsageError: not a .onnx file, or a batch below 1.
    """
    path, kind = locate(name)
    if kind != "onnx":
        raise UsageError(f"only .onnx engines have a profile by operator, and {path} is none")
    if not 1 <= batch <= MAX_BATCH:
        raise UsageError(f"--batch must be 1 to {MAX_BATCH:,}, not {batch:,}")
    step = open_step(path)
    threads = threads or OnnxEngine(step).setting(batch).threads
    graph = decode_graph(decode_body(step, filters=False), filters=False)
    card = step.card
    feeds: dict[str, np.ndarray[Any, Any]] = {
        f"{state}_start": np.zeros((batch, card.hidden), np.float32) for state in card.state_names
    }
    feeds["first"] = np.zeros(batch, np.int64)
    plain = open_session(graph, step.loop_opset, threads)
    count = 1
    times: list[float] = []
    for _ in range(RUNS + 1):  # the first one warms up, and says how many steps to take
        feeds["noise"] = gumbel(0, range(batch), 0, count, card.vocab)
        started = time.perf_counter()
        plain.run(None, feeds)
        times.append((time.perf_counter() - started) / count)
        count = max(2, min(1000, int(SECONDS / times[-1])))
    del plain
    feeds["noise"] = gumbel(0, range(batch), 0, count, card.vocab)
    with scratch_folder("p2-bench-") as folder:
        session = open_session(graph, step.loop_opset, threads, profile=folder / "step")
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    return Profile(str(path), batch, threads, 1e6 * statistics.median(times[1:]), operators(events, count))


def operators(events: list[dict[str, Any]], steps: int) -> list[Operator]:
    """Add up ONNX Runtime's trace events; the loop itself, which contains the others, is left out."""
    total: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") != "Node" or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        name = event["args"]["op_name"]
        if name != "Scan":
            entry = total.setdefault(name, [0, 0.0])
            entry[0] += 1
            entry[1] += event["dur"]
    everything = sum(us for _, us in total.values()) or 1.0
    found = [
        Operator(name, calls / steps, us / steps, us / everything) for name, (calls, us) in total.items()
    ]
    return sorted(found, key=lambda operator: -operator.us)


def show(result: Profile, console: Console) -> None:
    """A table for the terminal."""
    from rich.text import Text

    title = (
        f"{printable(result.file)}: {result.step_us:,.1f} µs a step without the profile, batch"
        f" {result.batch}, {result.threads} thread{'s' if result.threads > 1 else ''}"
    )
    table = titled(Text(title, "italic"), ("operator", "calls a step", "µs a step, profiled", "share"))
    for operator in result.operators:
        table.add_row(operator.name, f"{operator.calls:.1f}", f"{operator.us:,.1f}", f"{operator.share:.1%}")
    console.print(table)
