"""A server under everything that clients do: a minute in `make trust`, an hour in `make soak`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from p2.serve import soak

from ..conftest import make_card, step_bytes


@pytest.mark.weight(1000)  # it begins first
def test_nothing_is_left_of_mixed_load(trust, tmp_path):
    path, out = tmp_path / "charlm.onnx", tmp_path / "soak"
    path.write_bytes(step_bytes(make_card()))
    seconds = trust.lasting(60, most=3600)
    words = [
        sys.executable,
        "-m",
        "p2.serve.soak",
        str(path),
        "--minutes",
        str(seconds / 60),
        "--out",
        str(out),
    ]
    done = subprocess.run(
        ["nice", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(out.with_suffix(".json").read_text())
    requests, curve = told["requests"], [soak.Sample(**one) for one in told["curve"]]
    assert min(requests.values()) > 0
    trust.count(
        "Load",
        "a server",
        seconds=round(seconds),
        requests=sum(requests.values()),
        compared=requests["known"],
        left=0,
    )
    before, after = (int(one.memory) >> 20 for one in (soak.after_a_fifth(curve), curve[-1]))
    trust.count("Load", "a server", **{"MiB after a fifth": before, "MiB at the end": after})
