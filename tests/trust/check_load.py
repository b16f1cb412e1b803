"""A server under everything that clients do: a minute in `make trust`, an hour in `make soak`."""

from __future__ import annotations

import asyncio

from p2.runtime.opening import open_engine
from p2.serve import client, soak

from ..conftest import make_card, step_bytes


def test_nothing_is_left_of_mixed_load(trust, tmp_path):
    path = tmp_path / "charlm.onnx"
    path.write_bytes(step_bytes(make_card()))
    seconds = 60 if trust.scale == 1 else 72 * trust.scale
    known = soak.known_texts(open_engine(str(path)))
    with client.serving(str(path)) as port:
        found = asyncio.run(soak.soak(port, seconds, known))
    requests = found.requests
    assert min(requests.values()) > 0
    trust.count(
        "Load",
        "a server",
        seconds=seconds,
        requests=sum(requests.values()),
        compared=requests["known"],
        left=0,
    )
    before, after = (int(one.memory) >> 20 for one in (soak.after_a_fifth(found.curve), found.curve[-1]))
    trust.count("Load", "a server", **{"MiB after a fifth": before, "MiB at the end": after})
