"""A server of two tiny models in a thread, on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

import p2
from p2.serve import serving
from p2.serve.app import Server, create_app
from p2.serve.settings import Settings
from p2.serve.verbatim import Verbatim

from ..conftest import TINY_TEXT, make_card, step_bytes


class Running:
    """A server that answers.

    Attributes:
        app: the ASGI application.
        url: where it is.
        port: its last part.
        server: uvicorn's.
        client: of httpx, for this server.
    """

    def __init__(self, app: Server, url: str, server: uvicorn.Server) -> None:
        self.server = server
        self.app, self.url, self.port = app, url, int(url.rsplit(":", 1)[1])
        self.client = httpx.Client(base_url=url, timeout=30)

    def ask(self, **fields: object) -> httpx.Response:
        return self.client.post("/v1/completions", json=fields)

    def texts(self, **fields: object) -> list[str]:
        answer = self.ask(**fields)
        assert answer.status_code == 200, answer.text
        return [choice["text"] for choice in answer.json()["choices"]]


@contextlib.contextmanager
def run_server(app: Server) -> Iterator[Running]:
    with serving.listen("127.0.0.1", 0) as listening:
        server = serving.uvicorn_for(app)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        running = Running(app, serving.url(listening), server)
        try:
            until_ready(running)
            yield running
        finally:
            running.client.close()
            server.should_exit = True
            thread.join()


def until_ready(running: Running) -> None:
    for _ in range(3000):
        with contextlib.suppress(httpx.TransportError):
            if running.client.get("/ready").status_code == 200:
                return
        threading.Event().wait(0.01)
    raise AssertionError("the server did not become ready")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, p2.Model]]:
    """Open two models: ``lstm`` and ``gru``."""
    folder = tmp_path_factory.mktemp("served")
    for cell in ("lstm", "gru"):
        (folder / f"{cell}.onnx").write_bytes(step_bytes(make_card(cell)))
    return lambda: {cell: p2.load(folder / f"{cell}.onnx", threads=1) for cell in ("lstm", "gru")}


@pytest.fixture(scope="session")
def served(engines: Callable[[], dict[str, p2.Model]]) -> Iterator[Running]:
    """One server for all tests that leave it as it was."""
    models = {name: model.engine for name, model in engines().items()}
    settings = Settings(max_streams=16, queue=64, max_prompt=2000, max_length=20000)
    with run_server(create_app(models, settings, source=Verbatim([TINY_TEXT]), log=False)) as running:
        yield running


@pytest.fixture(scope="session")
def alone(engines: Callable[[], dict[str, p2.Model]]) -> dict[str, p2.Model]:
    """The same models, apart from any server: what ``p2 generate`` writes."""
    return engines()


@pytest.fixture
def start(engines: Callable[[], dict[str, p2.Model]]) -> Iterator[Callable[..., Running]]:
    """A server of one's own: ``start(max_streams=2)``."""
    with contextlib.ExitStack() as stack:

        def begin(**settings: object) -> Running:
            models = {"lstm": engines()["lstm"].engine}
            return stack.enter_context(run_server(create_app(models, Settings(**settings), log=False)))

        yield begin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "charlm.onnx").write_bytes(step_bytes(make_card("gru")))
    return tmp_path
