"""KServe's inference protocol, version 2, over REST: for clients that speak it already.

Models, limits and scores are those of `/v1/classify`. A model's one version is the
hash of its weights.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

import saccade
from saccade.server.engine.model_registry import ServedModel
from saccade.server.protocol.errors import NotReady, ProtocolError, UnknownModel
from saccade.server.transport.classify import PROBLEMS, Asked
from saccade.server.transport.classify_bodies import check_count
from saccade.server.transport.classify_examples import infer_examples
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.kserve_tensors import (
    HEADER_LENGTH,
    INPUTS,
    InferParameters,
    InferRequest,
    TensorSpec,
    chosen,
    output_specs,
    outputs_of,
    parse_infer,
    parse_parameters,
    recordings_of,
    write_outputs,
)
from saccade.server.transport.problems import (
    GUARDED,
    from_protocol,
    problems,
    schema_of,
)
from saccade.server.transport.recordings import Preparation
from saccade.server.transport.request_body import receive_body
from saccade.server.transport.scoring import unless_client_leaves
from saccade.server.transport.service import Service

MODELS: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
NO: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "no"}}
NO_MODEL: Final = GUARDED | problems(s404="no such model, or no such version of it")


class ServerMetadata(BaseModel):
    """The server's name and version, and what it speaks beside the protocol."""

    name: str = "saccade"
    version: str = saccade.__version__
    extensions: list[str] = ["binary_tensor_data"]


class TensorMetadata(BaseModel):
    """A tensor that a model takes or answers."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model: its one version, and its tensors."""

    name: str
    versions: list[str]
    platform: str = "saccade"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Liveness(BaseModel):
    """Whether the server lives."""

    live: bool


class Readiness(BaseModel):
    """Whether the server, or a model, takes requests."""

    ready: bool


class ModelReadiness(Readiness):
    """Whether a model takes requests."""

    name: str


OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "A map; where Inference-Header-Content-Length says how long it "
        "is, raw tensors follow. `parameters` takes `sensor` (as 640x480), `fit`, "
        "`invalid`, `sort_within_us`, `half_life_ms` and `binary_data_output`.",
        "content": {
            "application/json": {
                "schema": schema_of(InferRequest),
                "examples": infer_examples(),
            }
        },
    }
}


def kserve_routes(service: Service) -> APIRouter:
    """Return the routes of the protocol."""
    router = APIRouter()

    @router.get("/v2", summary="The server, as KServe asks", responses=GUARDED)
    async def get_server() -> ServerMetadata:
        return ServerMetadata()

    @router.get("/v2/health/live", summary="Does the process live?", responses=NO)
    async def get_live(response: Response) -> Liveness:
        live = not service.engine.health.failed
        response.status_code = 200 if live else 503
        return Liveness(live=live)

    @router.get("/v2/health/ready", summary="Are the models ready?", responses=NO)
    async def get_ready(response: Response) -> Readiness:
        ready = service.engine.health.ready and not service.draining
        response.status_code = 200 if ready else 503
        return Readiness(ready=ready)

    for path in MODELS:
        _add_model_routes(router, service, path)
    return router


def _add_model_routes(router: APIRouter, service: Service, path: str) -> None:
    """Add the routes of a model at a path, which may name a version."""

    @router.get(path, summary="A model's tensors", responses=NO_MODEL)
    async def get_model(model: str, version: str | None = None) -> ModelMetadata:
        return describe_model(find_model(service, model, version))

    @router.get(f"{path}/ready", summary="Is it ready?", responses=NO_MODEL | NO)
    async def get_ready(
        response: Response, model: str, version: str | None = None
    ) -> ModelReadiness:
        found = find_model(service, model, version)
        ready = service.engine.health.models[found.key].state == "ready"
        response.status_code = 200 if ready else 503
        return ModelReadiness(name=found.name, ready=ready)

    @router.post(
        f"{path}/infer",
        summary="Score recordings that are tensors",
        openapi_extra=OPENAPI,
        responses=PROBLEMS,
    )
    async def post_infer(
        request: Request, model: str, version: str | None = None
    ) -> Response:
        quota = service.quotas.of(request.scope.get(HOLDER, ""))
        found = find_model(service, model, version)
        try:
            with quota.request():
                return await infer(Asked(request, service, quota), found)
        except ProtocolError as error:
            raise from_protocol(error) from None


def find_model(service: Service, name: str, version: str | None) -> ServedModel:
    """Return a served model.

    Raises:
        Problem: There is none of this name and version.
    """
    try:
        model = service.model(name)
        if version not in {None, model.content_hash}:
            raise UnknownModel(f"{name}/{version}", tuple(service.catalogue.current))
        return model
    except (UnknownModel, NotReady) as error:
        raise from_protocol(error) from None


def describe_model(model: ServedModel) -> ModelMetadata:
    """Return a model's metadata."""

    def described(specs: tuple[TensorSpec, ...]) -> list[TensorMetadata]:
        return [TensorMetadata(**spec._asdict()) for spec in specs]

    return ModelMetadata(
        name=model.name,
        versions=[model.content_hash],
        inputs=described(INPUTS),
        outputs=described(output_specs(len(model.labels))),
    )


async def infer(asked: Asked, model: ServedModel) -> Response:
    """Score the recordings of a request, and write the tensors that it asks for."""
    settings = asked.service.settings
    body = await receive_body(
        asked.request, settings.max_body_bytes, asked.charge_bytes, settings.open_s
    )
    length = asked.request.headers.get(HEADER_LENGTH)
    request, tensors = await asyncio.to_thread(parse_infer, body, length)
    choices = parse_parameters(model.name, request.parameters)
    chosen(outputs_of([], len(model.labels)), request, binary=False)  # before the work
    recordings = await asyncio.to_thread(
        recordings_of,
        tensors,
        choices.invalid,
        lambda count: check_count(count, settings.max_recordings),
    )
    asked.charge_events(recordings)
    source = choices.sensor or model.sensor
    preparation = Preparation(choices, source, model.tokenization)
    work = asked.scorer(model, choices).score_all(recordings, preparation)
    results = await unless_client_leaves(asked.request, work)
    outputs = outputs_of(results, len(model.labels))
    return answer(model, request, choices, outputs)


def answer(
    model: ServedModel,
    request: InferRequest,
    choices: InferParameters,
    outputs: list[Any],
) -> Response:
    """Write a response: JSON, or JSON and raw tensors."""
    head = {"model_name": model.name, "model_version": model.content_hash}
    if request.id is not None:
        head["id"] = request.id
    tensors = chosen(outputs, request, binary=choices.binary_data_output)
    content, length = write_outputs(head, tensors)
    if length is None:
        return Response(content, media_type="application/json")
    headers = {HEADER_LENGTH: f"{length}"}
    return Response(content, headers=headers, media_type="application/octet-stream")
