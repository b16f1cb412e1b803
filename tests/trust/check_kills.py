"""Killed commands, failing file systems: files are whole, nothing finished is lost, runs go on.

Which commands, and what may be there then, is in `scenarios.py`; `killing.py`, a process of its own, does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import make_card, step_bytes
from .scenarios import SCENARIOS
from .victims import build_layer

Ask = Callable[..., dict[str, Any]]

FAULTS = {
    "full disk": ("faults", {"kind": "full disk"}),
    "quota": ("faults", {"kind": "quota"}),
    "read-only": ("faults", {"kind": "read-only"}),
    "EIO": ("faults", {"kind": "EIO"}),
    "vanishing files": ("faults", {"kind": "vanishing files"}),
    "clock set back": ("clock", {}),
    "memory": ("memory", {}),
    "two at once": ("pairs", {}),
}
"""What happens to every command that writes."""


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask the process that kills: ``ask("kills", name="train", most=10, seed="1")``."""
    folder = tmp_path_factory.mktemp("killing")
    one = {"LD_PRELOAD": str(build_layer(folder)), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__).with_name("killing.py")), str(folder)]
    with subprocess.Popen(
        words, env=os.environ | one, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def call(do: str, **asked: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps({"do": do, **asked}) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield call
        process.stdin.close()


@pytest.mark.weight(30)
@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_killed_and_refused(trust, ask, name):
    problems: list[str] = []

    def tried(section: str, row: str, done: dict[str, Any], **counts: Any) -> None:
        problems.extend(done["problems"])
        trust.count(section, row, **counts)

    seed = str(trust.random().random())
    ask("prepare", name=name)
    done = ask("kills", name=name, most=trust.times(7, most=400), seed=seed, until=trust.part(0.5))
    tried("Kills", name, done, **{"before or within an operation": done["tried"]})
    for by in ("SIGKILL", "SIGTERM"):
        until = trust.part(0.2)
        done = ask("signals", name=name, times=trust.times(2, most=30), seed=seed, by=by, until=until)
        tried("Kills", name, done, **{f"{by} at random": done["tried"]})
    for number, (kind, (do, more)) in enumerate(FAULTS.items()):
        until = trust.part(1 / (len(FAULTS) - number))
        done = ask(do, name=name, most=trust.times(1, most=40), seed=seed, until=until, **more)
        tried("Faults", kind, done, tried=done["tried"])
    assert not problems


def test_a_decoder_without_memory_or_threads(trust, ask):
    done = ask("starved", name="generate", most=trust.times(12, most=40), seed=str(trust.random().random()))
    trust.count("Faults", "the compiled decoder: no memory, no thread", tried=done["tried"])
    assert not done["problems"]
    assert sum(done["said"].values()) > 3


WANTED = {"model": "charlm", "prompt": "a", "max_tokens": 30_000, "seed": 3}


@pytest.mark.weight(60)
def test_a_server_that_is_killed(trust, tmp_path, monkeypatch):
    (tmp_path / "charlm.onnx").write_bytes(step_bytes(make_card()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(tmp_path) as (process, client):
        whole = asked(client)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    rng = trust.random()
    for number in trust.turns(3, most=60):
        by = (signal.SIGKILL, signal.SIGTERM)[number % 2]
        with serving(tmp_path) as (process, client), ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(asked, client) for _ in range(4)]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.3))
            process.send_signal(by)
            assert process.wait(60) == (-by if by == signal.SIGKILL else 0)
            texts = [answer.result() for answer in answers]
            assert {*texts} <= {whole, None}
        trust.count("Kills", "serve", **{f"{by.name} at random": 1})
    with serving(tmp_path) as (process, client):
        assert asked(client) == whole
    assert not [*(tmp_path / "cache").rglob(".*")]


def asked(client: httpx.Client) -> str | None:
    """A text; None if the server has gone, or would not begin it."""
    with contextlib.suppress(httpx.TransportError):
        answer = client.post("/v1/completions", json=WANTED)
        if answer.status_code == 200:
            return answer.json()["choices"][0]["text"]
        assert answer.status_code == 503, answer.text
    return None


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "p2.cli", "serve", str(folder / "charlm.onnx"), "--port", str(port)]
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        subprocess.Popen(words, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            while process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/ready").status_code == 200:
                        break
            yield process, client
        finally:
            process.kill()
