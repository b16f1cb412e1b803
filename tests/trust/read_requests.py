"""Snapshots and requests: good files, hostile ones, and their use; see `reading.Reader`."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from p2.contract.errors import P2Error
from p2.contract.sampling import Sampling

from ..conftest import CELLS, make_card, step_bytes
from . import breaking
from .reading import Files, Reader

Rnd = random.Random


def no_snapshot(_number: int) -> Files:
    return {"seed": b""}


def forge_snapshot(_files: Files, rnd: Rnd) -> Files:
    return {"seed": str(rnd.getrandbits(60)).encode()}


@functools.cache
def engines() -> list[Any]:
    from p2.runtime.native.engine import NativeEngine, why_not
    from p2.runtime.onnxruntime.engine import OnnxEngine
    from p2.runtime.step_file import open_step

    made: list[Any] = []
    for number in range(4):
        path = Path(tempfile.mkdtemp()) / "charlm.onnx"
        path.write_bytes(
            step_bytes(make_card(*CELLS[number], precision=("float32", "int8", "float16", "int4")[number]))
        )
        found = open_step(path)
        made += [OnnxEngine(found, 1)] + ([] if why_not(found) else [NativeEngine(found, 1)])
    return made


def read_snapshot(folder: Path) -> None:
    from p2.runtime.decoder import Decoder

    told = (folder / "seed").read_bytes()
    rnd = Rnd(told)
    decoder = Decoder(rnd.choice(engines()), Sampling(), 1, (0, 1))
    decoder.write(2)
    snapshot: Any = decoder.snapshot()
    if told:
        forge_values(snapshot, rnd)
    decoder.restore(snapshot)
    written = decoder.write(5)
    assert written.shape == (2, 5)
    assert 0 <= written.min() <= written.max() < decoder.engine.card.vocab
    assert np.isfinite(decoder.predict()).all()


def forge_values(snapshot: dict[str, Any], rnd: Rnd) -> None:
    state = snapshot["state"]
    name = rnd.choice([*state])
    how = rnd.randrange(9)
    if how == 0:
        values = state[name].copy()
        values.flat[rnd.randrange(values.size)] = rnd.choice(
            (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 2.0, 1e4)
        )
        state[name] = values
    elif how == 1:
        state[name] = state[name] * rnd.choice((1e38, 1e10, -1e4, 0))
    elif how == 2:
        state[name] = state[name].astype(rnd.choice(("f8", "f2", "i4", "c16", "O", "S4")))
    elif how == 3:
        state[name] = rnd.choice(
            (state[name][:1], state[name].T, state[name][:, :-1], state[name][None], np.zeros(0))
        )
    elif how == 4:
        state[rnd.choice(("h_99", "", 3, "c_00"))] = state.pop(name)
    elif how == 5:
        state[name] = rnd.choice((None, [], "x", 3, state[name].tolist(), np.float32(1)))
    elif how == 6:
        snapshot[rnd.choice([*snapshot])] = rnd.choice(
            (None, [], -1, 2**70, "x", 1.5, np.array([1, 99]), np.array([-1, 0]))
        )
    elif how == 7:
        del snapshot[rnd.choice([*snapshot])]
    else:
        big = np.zeros((len(state[name]), 2 * state[name].shape[1]), np.float32)
        state[name] = rnd.choice(
            (big[:, ::2], np.asfortranarray(state[name]), state[name].byteswap().view(">f4"))
        )


REQUEST = {
    "model": "charlm", "prompt": ["the ", "a"], "max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "n": 2,
    "stop": ["z"], "seed": 7, "stream": True, "stream_options": {"include_usage": True}, "echo": True,
    "logprobs": 2, "user": "u", "top_k": 3, "min_p": 0.01, "on_unknown": "skip",
}  # fmt: skip


def good_request(_number: int) -> Files:
    return {"body.json": json.dumps(REQUEST).encode()}


def forge_request(files: Files, rnd: Rnd) -> Files:
    document = json.loads(files["body.json"])
    for name in rnd.sample([*document], rnd.randrange(len(document))):
        del document[name]
    return {"body.json": breaking.json_text(json.dumps(document).encode(), rnd)}


@functools.cache
def served() -> tuple[Any, Any]:
    import httpx

    import p2
    from p2.serve.app import create_app
    from p2.serve.settings import Settings

    path = Path(tempfile.mkdtemp()) / "charlm.onnx"
    path.write_bytes(step_bytes(make_card()))
    app = create_app({"charlm": p2.load(path, threads=1).engine}, Settings(max_length=300), log=False)
    for batcher in app.batchers.values():
        batcher.start()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p2")
    return client, asyncio.new_event_loop()


def read_request(folder: Path) -> None:
    client, loop = served()
    data = (folder / "body.json").read_bytes()
    headers = {"content-type": "application/json"}
    answer = loop.run_until_complete(client.post("/v1/completions", content=data, headers=headers))
    assert answer.status_code in (200, 400, 404, 413), (answer.status_code, answer.text)
    if answer.status_code != 200:
        raise P2Error(answer.json()["error"]["message"])


READERS = (
    Reader("snapshots", no_snapshot, forge_snapshot, read_snapshot, 700, 90),
    Reader("requests", good_request, forge_request, read_request, 2500, 90),
)
