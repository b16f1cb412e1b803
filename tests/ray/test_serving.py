"""The server's application behind Ray Serve: two replicas, one of which is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("starlette", reason="starlette is not installed: the extra serve brings it")

import p2
from p2.contract.errors import P2Error, UsageError

from .conftest import free_port

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture
def engine(card_of, write_step):
    return write_step(card_of())


def asked(url, prompt, seed):
    body = {"model": "charlm", "prompt": prompt, "max_tokens": 30, "seed": seed}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["choices"][0]["text"]


def test_two_replicas_write_what_generate_writes_and_one_may_die(cluster, engine):
    pytest.importorskip("ray.serve", reason="ray[serve] is not installed: `make ray-test` brings it")
    from ray import serve

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(p2.ray.app(engine, replicas=2, cpus=0.5))
        with p2.load(engine) as model:
            wanted = {seed: model.generate("the ", length=30, seed=seed) for seed in range(6)}
        assert {seed: asked(url, "the ", seed) for seed in wanted} == wanted
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as response:
            assert [one["id"] for one in json.load(response)["data"]] == ["charlm"]
        os.kill(replicas()[0], signal.SIGKILL)
        until = time.monotonic() + 60
        found = {}
        while len(found) < len(wanted) and time.monotonic() < until:
            for seed in wanted.keys() - found:
                with contextlib.suppress(urllib.error.HTTPError):  # what the dead one was to answer
                    found[seed] = asked(url, "the ", seed)
        assert found == wanted
    finally:
        serve.shutdown()


def replicas() -> list[int]:
    """Processes of this Ray that are replicas: Ray writes what they are into their command lines."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command = file.read()
            with open(f"/proc/{entry}/status") as file:
                parent = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
        except (OSError, StopIteration, ValueError):
            continue
        if command.startswith(b"ray::ServeReplica") and descends(parent, os.getpid()):
            found.append(int(entry))
    assert len(found) == 2
    return found


def descends(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        try:
            with open(f"/proc/{process}/status") as file:
                process = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
        except (OSError, StopIteration):
            return False
    return False


def test_replicas_may_scale_with_the_load(engine):
    pytest.importorskip("ray.serve", reason="ray[serve] is not installed: `make ray-test` brings it")
    from p2.serve.settings import Settings

    made = p2.ray.app({"a": engine, "b": engine}, Settings(max_streams=40, queue=10), replicas=(1, 4))
    config = made._bound_deployment._deployment_config
    assert (config.autoscaling_config.min_replicas, config.autoscaling_config.max_replicas) == (1, 4)
    assert config.autoscaling_config.target_ongoing_requests == 20
    assert config.max_ongoing_requests == 50


@pytest.mark.parametrize(
    ("engines", "settings", "kind", "says"),
    [
        (["charlm.onnx", "charlm.onnx"], {}, UsageError, "two engines are called 'charlm'"),
        ([], {}, UsageError, "there is no engine to serve"),
        ("missing.onnx", {}, P2Error, "there is no missing.onnx"),
        ("charlm.onnx", {"replicas": 0}, UsageError, "replicas are a number from 1 up"),
        ("charlm.onnx", {"replicas": (3, 2)}, UsageError, "replicas are a number from 1 up"),
    ],
)
def test_bad_values_are_sentences(engines, settings, kind, says, engine, monkeypatch):
    pytest.importorskip("ray.serve", reason="ray[serve] is not installed: `make ray-test` brings it")
    monkeypatch.chdir(engine.parent)
    with pytest.raises(kind, match=says):
        p2.ray.app(engines, **settings)
