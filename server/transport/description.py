"""What `/openapi.json` says of the routes, beyond their names."""

from __future__ import annotations

from typing import Any, Final

from starlette.routing import compile_path

from saccade.model.events.fit import POLICIES

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "stable; programs may depend on it"},
        "field": {"type": "string"},
        "index": {"type": "integer"},
        "recording": {"type": "integer"},
        "value": {},
        "retry_after_s": {"type": "number"},
    },
}


def _integers(most: int) -> dict[str, Any]:
    element = {"type": "integer", "minimum": 0, "maximum": most}
    return {"type": "array", "items": element}


RECORDING: Final[dict[str, Any]] = {
    "oneOf": [
        {
            "type": "object",
            "description": "columns, all of one length, in time order",
            "required": ["t", "x", "y", "p"],
            "additionalProperties": False,
            "properties": {
                "t": {**_integers(2**62), "description": "µs"},
                "x": _integers(65535),
                "y": _integers(65535),
                "p": _integers(1),
            },
        },
        {
            "type": "object",
            "description": "the wire's packed records, in base64",
            "required": ["data"],
            "additionalProperties": False,
            "properties": {"data": {"type": "string", "format": "byte"}},
        },
    ]
}

CLASSIFY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "recordings"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string"},
        "sensor": {
            "type": ["array", "null"],
            "description": "[width, height], or [width, height, polarities]",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 2,
            "maxItems": 3,
        },
        "fit": {"type": "string", "enum": [*POLICIES]},
        "recordings": {"type": "array", "minItems": 1, "items": RECORDING},
    },
}

CLASSIFY_REQUEST: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON; or the same map as application/msgpack, where `data` is "
        "bytes. It may be gzipped.",
        "content": {"application/json": {"schema": CLASSIFY}},
    }
}


def methods_of(document: dict[str, Any], path: str) -> str:
    """Return the methods of all routes of a path, as `Allow` names them.

    Args:
        document: What `/openapi.json` holds.
        path: The path of a request.
    """
    found = {
        method.upper()
        for template, routes in document["paths"].items()
        if compile_path(template)[0].match(path)
        for method in routes
    }
    return ", ".join(sorted(found))


def problems(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Describe the problem documents that a route may answer with.

    Args:
        statuses: For each status, as `s422`, what it is for.
    """
    content = {"application/problem+json": {"schema": PROBLEM}}
    return {
        int(name.removeprefix("s")): {"description": text, "content": content}
        for name, text in statuses.items()
    }


GUARDED: Final = problems(
    s401="no key, or an unknown one", s403="a page of another origin"
)
CLASSIFYING: Final = GUARDED | problems(
    s400="the body cannot be read",
    s404="no such model",
    s413="too long, or too many recordings",
    s415="of another media type or encoding",
    s422="something in the body is wrong; says where",
    s429="the key's holder uses more than it may",
    s500="a fault of the server's",
    s503="try again later",
)
UNWELL: Final[dict[int | str, dict[str, Any]]] = {
    503: {"description": "no; says why", "content": {"application/json": {}}}
}
