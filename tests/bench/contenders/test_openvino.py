"""What OpenVINO does beside computing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from p2.bench.contenders.registry import by_key
from p2.contract.card import Card


def test_openvino_tells_nobody_that_it_runs(tmp_path):
    if reason := by_key("openvino").missing(Card("rnn", 1, 1, 1, "a")):
        pytest.skip(reason)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from p2.contract.card import Card\nfrom p2.contract.errors import P2Error\n"
        "from p2.bench.contenders.openvino_contender import OpenVinoRunning\n"
        "try: OpenVinoRunning(Card('rnn', 1, 1, 1, 'a'), Path('missing.onnx'), 1)\n"
        "except P2Error as error: print(error)\n"
        "print('openvino' in sys.modules, [m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    )
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=home)
    assert done.returncode == 0, done.stderr
    said, loaded = done.stdout.strip().splitlines()
    assert said.startswith("OpenVINO does not take missing.onnx: ")
    assert loaded == "True []"
    assert list(tmp_path.iterdir()) == []


SIGNAL_AFTER_CLOSING = """
import gc, signal, sys
from pathlib import Path
from p2.bench.contenders.openvino_contender import OpenVinoRunning
from p2.runtime.step_file import open_step

path = Path(sys.argv[1])
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
one, other = (OpenVinoRunning(open_step(path).card, path, 1) for _ in range(2))
one.close()
del one
gc.collect()
other.close()
del other
gc.collect()
signal.raise_signal(signal.SIGUSR1)
assert heard
"""


def test_a_signal_after_openvino_is_heard(write_step, card_of):
    """Closed in the order of opening, two plugins left no stack for a handler: a signal ended the process."""
    if by_key("openvino").missing(card_of()) is not None:
        pytest.skip("OpenVINO is not installed")
    # faulthandler has the main thread use a stack for handlers, as pytest does.
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNAL_AFTER_CLOSING, write_step(card_of())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
