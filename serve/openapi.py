"""The OpenAPI document, made from the types that requests are checked against."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..contract.schema import Within
from ..version import __version__
from .settings import Settings

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_SIZES = {"string": "Length", "array": "Items", "object": "Properties"}

_ABOUT = {
    "model": "One of /v1/models; the first of them if not given.",
    "prompt": "Text to continue, several of them, or tokens: places in the model's vocabulary. Empty or null"
    " starts from a random character.",
    "max_tokens": "Characters to write; 16 if not given.",
    "temperature": "Divides the logits; 0 is greedy; 1 if none of temperature, tau and greedy is given.",
    "top_p": "Only the fewest characters that together reach this probability.",
    "n": "Texts for each prompt.",
    "stop": "The text ends before the first of these.",
    "seed": "The same seed writes the same text, whoever else is served; in the answer if it was drawn.",
    "stream": "Answer with server-sent events, the last of which is [DONE].",
    "stream_options": "include_usage: a last chunk that counts.",
    "echo": "The prompt is part of the text.",
    "logprobs": "Log-probability of each character, and so many of the most probable ones beside it.",
    "user": "Who asks: users take turns.",
    "tau": "Multiplies the logits: tau 2 is temperature 0.5.",
    "top_k": "Only the k most probable characters; 0 is off.",
    "min_p": "Only characters at least this share as probable as the best; 0 is off.",
    "greedy": "Always the most probable character.",
    "on_unknown": "Characters of the prompt that the model does not know: error or skip.",
}


def most_bytes(settings: Settings) -> int:
    """Of a request: a prompt of pairs of escapes, each 12 bytes, or of tokens, with room for the rest."""
    return (64 << 10) + 16 * settings.max_prompt


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type of `contract.schema`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return schema(inner[0]) | _limits(schema(inner[0]).get("type", ""), inner[1:])
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(one) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": schema(inner[0])}
    if origin is dict:
        return {"type": "object"}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {
            "type": "object",
            "properties": {name: schema(hint) for name, hint in hints.items()},
            "additionalProperties": False,
        }
    if kind is int:
        return {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
    return {"type": _PLAIN[kind]}


def _limits(kind: str, ranges: Sequence[Within]) -> dict[str, Any]:
    found = {}
    for one in ranges:
        for word, value in (("min", one.low), ("max", one.high)):
            if abs(value) != float("inf"):
                found[f"{word}{_SIZES.get(kind, 'imum')}"] = value
    return found


def document(
    body: type[Any], verbatims: type[Any], models: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """The whole document.

    Args:
        body, verbatims: what requests to /v1/completions and to /verbatim hold.
        models: names.
        settings: limits, and whether there are keys.
    """
    asked = schema(body)
    for name, about in _ABOUT.items():
        asked["properties"][name]["description"] = about
    asked["properties"]["max_tokens"]["anyOf"][0]["maximum"] = settings.max_length
    asked["properties"]["model"]["examples"] = list(models)
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    usage = {
        "type": ["object", "null"],
        "properties": dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), count),
    }
    numbers = {"type": "array", "items": {"type": ["number", "null"]}}
    logprobs = {
        "type": ["object", "null"],
        "properties": {
            "tokens": {"type": "array", "items": text},
            "token_logprobs": numbers,
            "top_logprobs": {"type": "array", "items": {"type": ["object", "null"]}},
            "text_offset": {"type": "array", "items": count},
        },
    }
    choice = {
        "type": "object",
        "required": ["text", "index", "finish_reason", "logprobs"],
        "properties": {
            "text": text,
            "index": count,
            "finish_reason": {"enum": ["stop", "length", None]},
            "logprobs": logprobs,
        },
    }
    completion = {
        "type": "object",
        "required": ["id", "object", "created", "model", "seed", "choices"],
        "properties": {
            "id": text,
            "object": {"const": "text_completion"},
            "created": count,
            "model": text,
            "seed": {"type": "integer"},
            "choices": {"type": "array", "items": choice},
            "usage": usage,
        },
    }
    model = {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {"id": text, "object": {"const": "model"}, "created": count, "owned_by": text},
    }
    error = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": text,
                    "type": text,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    }
    spans = {
        "type": "object",
        "required": ["spans", "least"],
        "properties": {
            "spans": {
                "type": "array",
                "description": "From one character, and up to another.",
                "items": {"type": "array", "items": count, "minItems": 2, "maxItems": 2},
            },
            "least": count | {"description": "Characters of the shortest run."},
        },
    }
    status = {"type": "object", "required": ["status"], "properties": {"status": text}}
    key: dict[str, Any] = {"security": [{"key": []}]} if settings.keys else {}
    locked = ["401"] if settings.keys else []
    named_only = ["403"] if settings.names else []

    def answers(said: str, content: dict[str, Any], *refusals: str) -> dict[str, Any]:
        refused = {code: _answer(_REFUSALS[code], _json("Error")) for code in (*refusals, *named_only)}
        return {"responses": {"200": _answer(said, content)} | refused}

    def health(said: str) -> dict[str, Any]:
        found = answers(said, _json("Status"))
        found["responses"]["503"] = _answer("It is not.", _json("Status"))
        return {"get": {"summary": said, **found}}

    named = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    event = {"type": "object", "required": ["data"], "properties": {"data": text}}  # each one
    written = _json("Completion") | {"text/event-stream": {"schema": event}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "p2", "version": __version__, "description": "Recurrent character models."},
        "paths": {
            "/v1/completions": {
                "post": {
                    "summary": "Continue texts",
                    "operationId": "createCompletion",
                    "requestBody": {"required": True, "content": _json("CompletionRequest")},
                    **key,
                    **answers("The texts.", written, *_POST, *locked),
                }
            },
            "/v1/models": {
                "get": {"summary": "The models", **key, **answers("All.", _json("Models"), *locked)}
            },
            "/v1/models/{model}": {
                "get": {
                    "summary": "One model",
                    "parameters": [named],
                    **key,
                    **answers("It.", _json("Model"), "404", *locked),
                }
            },
            "/verbatim": {
                "post": {
                    "summary": "Which runs of characters of a text stand in the training text",
                    "requestBody": {"required": True, "content": _json("VerbatimRequest")},
                    **key,
                    **answers("Them.", _json("Verbatim"), "400", "404", "408", "413", "415", *locked),
                }
            },
            "/health": health("Whether the server is well"),
            "/ready": health("Whether it takes requests"),
            "/metrics": {
                "get": {"summary": "Prometheus", **answers("The meters.", {"text/plain": {"schema": text}})}
            },
            "/openapi.json": {
                "get": {
                    "summary": "This document",
                    **answers("It.", {"application/json": {"schema": {"type": "object"}}}),
                }
            },
            "/": {
                "get": {"summary": "A page to play with", **answers("It.", {"text/html": {"schema": text}})}
            },
        },
        "components": {
            "schemas": {
                "CompletionRequest": asked,
                "Completion": completion,
                "Model": model,
                "Models": {
                    "type": "object",
                    "required": ["object", "data"],
                    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": model}},
                },
                "VerbatimRequest": schema(verbatims) | {"required": ["text"]},
                "Verbatim": spans,
                "Error": error,
                "Status": status,
            },
            **({"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if settings.keys else {}),
        },
    }


_REFUSALS = {
    "400": "The request cannot be meant.",
    "401": "The key is missing or wrong.",
    "403": "The server does not answer to this name.",
    "404": "There is no such model, or no training text.",
    "408": "The request did not end.",
    "413": "The request is too long.",
    "415": "The request does not say that it is JSON.",
    "429": "Too many texts are waiting: Retry-After says for how many seconds.",
    "500": "The engine failed.",
    "503": "The server is about to end.",
}
_POST = ("400", "404", "408", "413", "415", "429", "500", "503")


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _answer(said: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": said, "content": content}
