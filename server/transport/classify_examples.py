"""The bodies that are scored as `/openapi.json` describes them, with examples.

Every example is a request to a model that is served here, and may be sent as it stands.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np

from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import EVENT_DTYPE
from saccade.server.engine.model_registry import Catalogue
from saccade.server.transport.classify_bodies import ClassifyForm, ClassifyRequest
from saccade.server.transport.multipart import MULTIPART
from saccade.server.transport.problems import schema_of

EVENTS: Final = np.array(
    [(0, 0, 0, 1), (10, 1, 0, 1), (20, 0, 0, 0), (35, 1, 0, 1)], EVENT_DTYPE
)
"""Four events that lie in any sensor of more than one pixel."""
TABLE: Final = "t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in EVENTS)
ABOUT: Final = (
    "JSON; or the same map as application/msgpack, where `data` is bytes; or a form "
    "with a part `recordings` for each file. It may be gzipped."
)


def describe_bodies(catalogue: Catalogue) -> dict[str, Any]:
    """Return what the route's description has beyond FastAPI's own."""
    model = next(iter(catalogue.current), "nmnist")
    return {
        "requestBody": {
            "required": True,
            "description": ABOUT,
            "content": {
                "application/json": {
                    "schema": schema_of(ClassifyRequest),
                    "examples": map_examples(model),
                },
                MULTIPART: {
                    "schema": form_schema(),
                    "examples": form_examples(model),
                },
            },
        }
    }


def map_examples(model: str) -> dict[str, Any]:
    """Return examples of JSON bodies."""
    columns = {name: EVENTS[name].tolist() for name in ("t", "x", "y", "p")}
    data = base64.b64encode(pack(EVENTS, 0)).decode()
    late = {name: [*values, values[0]] for name, values in columns.items()}
    return {
        "columns": {
            "summary": "one recording, as columns",
            "value": {"model": model, "recordings": [columns]},
        },
        "packed": {
            "summary": "two recordings as packed records, base64; scores that forget",
            "value": {
                "model": model,
                "half_life_ms": 100.0,
                "recordings": [{"data": data}, {"data": data}],
            },
        },
        "partial": {
            "summary": "the second recording is out of order and has a problem instead",
            "value": {"model": model, "partial": True, "recordings": [columns, late]},
        },
    }


def form_examples(model: str) -> dict[str, Any]:
    """Return examples of forms; a file's content stands as text."""
    return {
        "tables": {
            "summary": "two files, both tables of events",
            "value": {"model": model, "format": "csv", "fit": "scale"}
            | {"sensor": "2x1", "recordings": [TABLE, TABLE]},
        },
        "partial": {
            "summary": "the second file holds no events and has a problem instead",
            "value": {"model": model, "format": "csv", "fit": "scale"}
            | {"sensor": "2x1", "recordings": [TABLE, "none\n"]},
        },
    }


def infer_examples() -> dict[str, Any]:
    """Return examples of JSON bodies of KServe's `infer`."""
    rows = [[int(event[name]) for name in ("t", "x", "y", "p")] for event in EVENTS]
    packed = [*pack(EVENTS, 0)]
    offsets = _tensor("offsets", "INT64", [3], [0, 3, 4])
    return {
        "events": {
            "summary": "one recording: an event a row",
            "value": {"inputs": [_tensor("events", "INT64", [4, 4], rows)]},
        },
        "batch": {
            "summary": "two recordings as packed records; the labels of both alone",
            "value": {
                "id": "1",
                "parameters": {"half_life_ms": 100.0},
                "inputs": [_tensor("packed", "UINT8", [4, 8], packed), offsets],
                "outputs": [{"name": "label"}],
            },
        },
    }


def _tensor(
    name: str, datatype: str, shape: list[int], data: list[Any]
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def form_schema() -> dict[str, Any]:
    """Return the schema of a form: text fields, and files."""
    schema = schema_of(ClassifyForm)
    files = {"type": "string", "format": "binary"}
    schema["properties"]["recordings"] = {
        "type": "array",
        "items": files,
        "minItems": 1,
        "description": "a recording in any format that `saccade stream` reads",
    }
    schema["required"] = [*schema["required"], "recordings"]
    return schema
