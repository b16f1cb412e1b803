"""The application: what answers which path."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..contract.documents import check, parse
from ..contract.engine import Engine
from ..contract.errors import ContractError, P2Error
from ..contract.page import filled
from ..contract.schema import shown
from . import openapi
from .access import Access
from .answers import Events, Json, bearer, encode, read_json, refusal, unless_gone
from .batcher import Batcher, Ending, Full
from .completions import Body, Choice, Order, Verbatims, answer, order, read_body, usage
from .errors import ApiError
from .hosts import Hosts
from .inbox import Inbox, deliver
from .metrics import CONTENT_TYPE, Meters
from .settings import Settings
from .verbatim import LEAST, Verbatim

_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def create_app(
    models: Mapping[str, Engine],
    settings: Settings | None = None,
    *,
    source: Verbatim | None = None,
    log: bool = True,
) -> Server:
    """An ASGI application that serves models.

    Args:
        models: engines by the names that clients know them by; they belong to the application from now on.
        settings: limits and keys.
        source: the training text, for the page to mark what stands in it.
        log: whether every request leaves a line of JSON on stderr.
    """
    return Server(models, settings or Settings(), source, log)


class Server:
    """The ASGI application."""

    def __init__(
        self, models: Mapping[str, Engine], settings: Settings, source: Verbatim | None, log: bool
    ) -> None:
        self.settings = settings
        self._source = source
        self.meters = Meters()
        self.batchers = {
            name: Batcher(engine, settings, deliver, partial(self.meters.chunk, name))
            for name, engine in models.items()
        }
        self._started = int(time.time())
        self._keys = [hashlib.sha256(key.encode()).digest() for key in settings.keys]
        routes = [
            Route("/v1/completions", self._completions, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{model:path}", self._model),
            Route("/verbatim", self._verbatim, methods=["POST"]),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/", self._playground),
        ]
        app: ASGIApp = Starlette(
            routes=routes,
            middleware=[
                Middleware(
                    CORSMiddleware,
                    allow_origins=list(settings.origins),
                    allow_methods=["GET", "POST"],
                    allow_headers=["authorization", "content-type", "x-request-id"],
                    expose_headers=["x-request-id", "retry-after"],
                )
            ]
            if settings.origins
            else [],
            exception_handlers={
                ApiError: _refused,
                HTTPException: _http_refused,
                ClientDisconnect: _gone,
                Exception: _broken,
            },
            lifespan=self._lifespan,
        )
        if settings.names:
            app = Hosts(app, settings.names)
        paths = frozenset(route.path for route in routes if "{" not in route.path)
        self._app = Access(app, self.meters, paths, log)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        for batcher in self.batchers.values():
            batcher.start()
        yield
        self.close()

    def refuse(self) -> None:
        """Take no new texts from now on; those that are here go on."""
        for batcher in self.batchers.values():
            batcher.refuse()

    @property
    def idle(self) -> bool:
        """Whether no text is waiting or being written."""
        return not any(sum(batcher.counts().values()) for batcher in self.batchers.values())

    def end(self) -> None:
        """End the texts that are left, at the next border; their readers are told."""
        for batcher in self.batchers.values():
            batcher.close()

    def close(self) -> None:
        """End what is left, and give back the engines."""
        self.end()
        for batcher in self.batchers.values():
            batcher.engine.close()

    def _check_key(self, request: Request) -> str:
        """Who asks, for the queue's turns; the empty string where no key is needed."""
        if not self._keys:
            return ""
        given = hashlib.sha256(bearer(request.headers).encode()).digest()
        # Every key is compared, and each in constant time: how long it takes tells nothing.
        if sum([hmac.compare_digest(given, key) for key in self._keys]) == 0:
            raise ApiError(
                401,
                "the request needs a key of this server: Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return given.hex()

    def _batcher(self, name: str | None) -> tuple[str, Batcher]:
        if name is None:
            return next(iter(self.batchers.items()))
        if name not in self.batchers:
            known = ", ".join(self.batchers)
            raise ApiError(
                404,
                f"there is no model {shown(name)} here; there is {known}",
                param="model",
                code="model_not_found",
            )
        return name, self.batchers[name]

    async def _completions(self, request: Request) -> Response:
        started = time.perf_counter()
        user = self._check_key(request)
        data = await read_json(request, openapi.most_bytes(self.settings))
        try:
            body = read_body(parse(data, "the request"))
        except ContractError as error:
            raise ApiError(400, str(error)) from error
        name, batcher = self._batcher(body.model)
        asked = order(body, name, batcher.codec, self.settings, Inbox())
        logged = request.state.logged
        logged |= {"model": name, "seed": asked.seed, "prompt_characters": asked.prompt_characters}
        client = request.client.host if request.client else ""
        try:
            batcher.submit(asked.texts, user or (f"user {body.user}" if body.user else f"client {client}"))
        except Full as error:
            headers = {"retry-after": str(error.seconds)}
            raise ApiError(429, str(error), code="rate_limit_exceeded", headers=headers) from error
        except Ending as error:
            raise ApiError(503, str(error), headers={"retry-after": "1"}) from error
        self.meters.prompt_characters.labels(name).inc(asked.prompt_characters)
        pieces = self._pieces(asked, batcher, started, logged)
        identity = request.state.identity
        if asked.stream:
            return Events(_events(asked, identity, pieces), partial(batcher.cancel, asked.texts))
        try:
            found = await unless_gone(_whole(asked, identity, pieces), request.receive)
        finally:
            batcher.cancel(asked.texts)
        return _Nobody() if found is None else Json(found)

    async def _pieces(
        self, asked: Order, batcher: Batcher, started: float, logged: dict[str, Any]
    ) -> AsyncIterator[list[Choice]]:
        """The choices that have something new, until all have ended.

        Raises:
            ApiError: a text failed.
        """
        choices = {id(text): Choice(text) for text in asked.texts}
        inbox, going, first = asked.texts[0].inbox, len(choices), True
        while going:
            fresh: dict[int, Choice] = {}
            lengths: dict[int, list[int]] = {}
            for text, piece in await inbox.take():
                if piece.error is not None:
                    status = 503 if isinstance(piece.error, Ending) else 500
                    raise ApiError(status, str(piece.error))
                choice = fresh[id(text)] = choices[id(text)]
                choice.add(piece)
                lengths.setdefault(id(text), []).append(len(piece.shown))
                going -= bool(piece.end)
            if first:
                self.meters.first.labels(asked.model).observe(time.perf_counter() - started)
                logged["first_character_seconds"] = round(time.perf_counter() - started, 4)
                first = False
            yield list(fresh.values())
            for key, choice in fresh.items():
                batcher.took(choice.text, len(lengths[key]), sum(lengths[key]))
            logged["characters"] = sum(choice.written for choice in choices.values())

    async def _models(self, request: Request) -> Response:
        self._check_key(request)
        return Json({"object": "list", "data": [self._about(name) for name in self.batchers]})

    async def _model(self, request: Request) -> Response:
        self._check_key(request)
        return Json(self._about(self._batcher(request.path_params["model"])[0]))

    def _about(self, name: str) -> dict[str, Any]:
        engine = self.batchers[name].engine
        card = engine.card
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "p2",
            "cell": card.cell,
            "layers": card.layers,
            "hidden": card.hidden,
            "precision": card.precision,
            "vocabulary": card.vocabulary,
            "engine": engine.name,
            "max_prompt": self.settings.max_prompt,
            "max_length": self.settings.max_length,
        }

    async def _verbatim(self, request: Request) -> Response:
        self._check_key(request)
        data = await read_json(request, openapi.most_bytes(self.settings))
        try:
            asked = Verbatims(**check(parse(data, "the request"), Verbatims, "the request"))
        except ContractError as error:
            raise ApiError(400, str(error)) from error
        if self._source is None:
            raise ApiError(404, "this server was not given the training text (--text)")
        spans = await asyncio.to_thread(self._source.spans, asked.text)
        return Json({"spans": spans, "least": LEAST})

    async def _health(self, _request: Request) -> Response:
        well = all(batcher.alive for batcher in self.batchers.values())
        return Json({"status": "ok" if well else "broken"}, 200 if well else 503)

    async def _ready(self, _request: Request) -> Response:
        ready = all(batcher.ready for batcher in self.batchers.values())
        return Json({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def _metrics(self, _request: Request) -> Response:
        page = self.meters.page(self.batchers)
        return Response(page, headers={"content-type": CONTENT_TYPE})

    async def _openapi(self, _request: Request) -> Response:
        return Json(openapi.document(Body, Verbatims, list(self.batchers), self.settings))

    async def _playground(self, _request: Request) -> Response:
        page = filled(resources.files(__package__).joinpath("playground.html").read_text(encoding="utf-8"))
        return Response(page, media_type="text/html", headers=_PAGE_HEADERS)


class _Nobody(Response):
    """No answer: the client has gone."""

    async def __call__(self, *_: Any) -> None:
        """Nothing is sent."""


async def _whole(asked: Order, identity: str, pieces: AsyncIterator[list[Choice]]) -> dict[str, Any]:
    """The answer in one."""
    choices: dict[int, Choice] = {}
    async for some in pieces:
        choices |= {choice.text.index: choice for choice in some}
    shown = [choices[index].flush() for index in sorted(choices)]
    written = sum(choice.written for choice in choices.values())
    return answer(asked, identity, shown, usage=usage(asked, written))


async def _events(asked: Order, identity: str, pieces: AsyncIterator[list[Choice]]) -> AsyncIterator[bytes]:
    """The answer in chunks."""
    more = {"usage": None} if asked.usage else {}
    written: dict[int, int] = {}
    try:
        async for some in pieces:
            for choice in some:
                yield encode(answer(asked, identity, [choice.flush()], **more))
                written[choice.text.index] = choice.written
        if asked.usage:
            yield encode(answer(asked, identity, [], usage=usage(asked, sum(written.values()))))
    except ApiError as error:
        yield encode(error.body())
    yield b"[DONE]"


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return refusal(error)


async def _http_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(ApiError(error.status_code, error.detail, headers=error.headers))


async def _gone(_request: Request, _error: Exception) -> Response:
    return _Nobody()


async def _broken(_request: Request, error: Exception) -> Response:
    said = str(error) if isinstance(error, P2Error) else "the server failed: its log says where"
    return refusal(ApiError(500, said))
