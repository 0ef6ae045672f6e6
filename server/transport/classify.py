"""The route `POST /v1/classify`: scores whole recordings, of any body that it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Request

from saccade.model.events.recordings import OPENERS
from saccade.server.engine.model_registry import ServedModel
from saccade.server.protocol.errors import ProtocolError
from saccade.server.transport.classify_bodies import (
    Choices,
    ClassifyForm,
    ClassifyResponse,
    check_count,
    parse_body,
)
from saccade.server.transport.classify_examples import describe_bodies
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.multipart import MULTIPART, MultipartForm
from saccade.server.transport.problems import (
    GUARDED,
    Problem,
    from_protocol,
    problems,
)
from saccade.server.transport.rate_limits import KeyQuota
from saccade.server.transport.recordings import Given, Preparation
from saccade.server.transport.request_body import receive_body, receive_pieces
from saccade.server.transport.routes import describe
from saccade.server.transport.scoring import (
    EventBudget,
    Job,
    Scorer,
    read_request,
    unless_client_leaves,
)
from saccade.server.transport.service import Service
from saccade.server.transport.uploads import Upload, receive_form

PROBLEMS: Final = GUARDED | problems(
    s400="the body cannot be read",
    s404="no such model",
    s408="nothing of the body came for too long",
    s413="too long, or too many recordings or events",
    s415="of another media type or encoding",
    s422="something in the body is wrong; says where",
    s429="the key's holder uses more than it may",
    s500="a fault of the server's",
    s503="try again later",
)
FILES: Final = "recordings"
"""The field of a form whose parts are files."""


class Asked(NamedTuple):
    """One request, while it is answered.

    Attributes:
        request: The request.
        service: The server.
        quota: Its key's.
    """

    request: Request
    service: Service
    quota: KeyQuota

    @property
    def media_type(self) -> str:
        """The body's media type, in lower case."""
        header = self.request.headers.get("content-type", "")
        return header.partition(";")[0].strip().lower()

    def charge_bytes(self, size: int) -> None:
        """Charge what has come in to the key."""
        self.quota.charge(size=size)

    def charge_events(self, recordings: Sequence[Given]) -> None:
        """Charge the events of recordings in memory to the key."""
        counts = (len(each) for each in recordings if not isinstance(each, Problem))
        self.quota.charge(events=sum(counts))

    def scorer(self, model: ServedModel, choices: Choices) -> Scorer:
        """Return what scores the request's recordings."""
        most = self.service.settings.max_request_events
        budget = EventBudget(most, self.quota)
        return Scorer(self.service, model, choices, budget)


def classify_routes(service: Service) -> APIRouter:
    """Return the route that scores whole recordings."""
    router = APIRouter()

    @router.post(
        "/v1/classify",
        summary="Score whole recordings",
        openapi_extra=describe_bodies(service.catalogue),
        responses=PROBLEMS,
    )
    async def post_classify(request: Request) -> ClassifyResponse:
        quota = service.quotas.of(request.scope.get(HOLDER, ""))
        asked = Asked(request, service, quota)
        answer = answer_form if asked.media_type == MULTIPART else answer_map
        try:
            with quota.request():
                return await answer(asked)
        except ProtocolError as error:
            raise from_protocol(error) from None

    return router


async def answer_map(asked: Asked) -> ClassifyResponse:
    """Score the recordings of a JSON or msgpack body, which is held in memory."""
    service, settings = asked.service, asked.service.settings
    body = await receive_body(
        asked.request, settings.max_body_bytes, asked.charge_bytes, settings.open_s
    )
    choices, recordings = await asyncio.to_thread(
        parse_body, asked.media_type, body, settings.max_recordings
    )
    del body
    asked.charge_events(recordings)
    model = service.model(choices.model)
    source = choices.sensor or model.sensor
    preparation = Preparation(choices, source, model.tokenization)
    work = asked.scorer(model, choices).score_all(recordings, preparation)
    results = await unless_client_leaves(asked.request, work)
    return ClassifyResponse(**describe(model), results=results)


async def answer_form(asked: Asked) -> ClassifyResponse:
    """Score the files of a form, which lie on disk meanwhile."""
    service, settings = asked.service, asked.service.settings
    async with service.uploads.upload() as upload:
        form = new_form(asked, upload)
        pieces = receive_pieces(
            asked.request,
            settings.max_upload_bytes,
            asked.charge_bytes,
            settings.open_s,
        )
        await receive_form(pieces, form, upload)
        choices = ClassifyForm.parse(form.values)
        check_count(len(form.uploads), settings.max_recordings)
        model = service.model(choices.model)
        jobs = [
            Job(read_request(choices, file, model.tokenization), number, file.name)
            for number, file in enumerate(form.uploads)
        ]
        work = asked.scorer(model, choices).score_files(jobs)
        results = await unless_client_leaves(asked.request, work)
        return ClassifyResponse(**describe(model), results=results)


def new_form(asked: Asked, upload: Upload) -> MultipartForm:
    """Return the form of a request, whose files go to an upload's folder."""
    settings = asked.service.settings

    def path_of(number: int, name: str) -> Path:
        suffix = Path(name).suffix.lower()
        return upload.path / f"{number}{suffix if suffix in OPENERS else ''}"

    return MultipartForm(
        asked.request.headers["content-type"],
        ClassifyForm.model_fields,
        FILES,
        path_of,
        lambda count: check_count(count, settings.max_recordings),
    )
