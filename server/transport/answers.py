"""What a request hears that no route has answered: problem documents, every time."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from saccade.server.transport.description import methods_of
from saccade.server.transport.problems import Problem, answer


def answer_errors(app: FastAPI, refused: Callable[[str], None]) -> None:
    """Let an application answer what its routes raise.

    Args:
        app: The application.
        refused: Hears the code of each refusal.
    """

    async def answer_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        refused(error.code)
        return await answer(request, error)

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "no_such_route", 405: "method_not_allowed"}.get(
            error.status_code, "bad_request"
        )
        problem = Problem(error.status_code, code, error.detail)
        response = await answer(request, problem)
        response.headers.update(error.headers or {})
        methods = methods_of(app.openapi(), request.url.path)
        if error.status_code == 405 and methods:
            response.headers["Allow"] = methods  # the framework's are of one route
        return response

    async def answer_fault(request: Request, _: Exception) -> Response:
        text = "the server failed; its log says why"
        return await answer(request, Problem(500, "internal_error", text))

    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(Exception, answer_fault)
