"""A server under everything that clients do: 15 seconds in `make trust`, an hour in `make soak`."""

from __future__ import annotations

import asyncio

from p2.serve import client, soak

from ..conftest import make_card, step_bytes


def test_nothing_is_left_of_mixed_load(trust, tmp_path):
    path = tmp_path / "charlm.onnx"
    path.write_bytes(step_bytes(make_card()))
    seconds = 15 if trust.scale == 1 else 72 * trust.scale
    with client.serving(str(path)) as port:
        found = asyncio.run(soak.soak(port, seconds))
    before, after = (int(found.pop(name)) >> 20 for name in ("before", "after"))
    trust.count("Load", "a server", seconds=seconds, requests=int(sum(found.values())), left=0)
    trust.count("Load", "a server", **{"MiB after a fifth": before, "MiB at the end": after})
