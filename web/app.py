"""The service as an ASGI application: the routes, one form for every error, and the guard in front."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from dfpipe import __version__
from dfpipe.errors import ResourceError
from dfpipe.web.guard import Guard
from dfpipe.web.jobs import JobStore
from dfpipe.web.refusal import Refused, answer
from dfpipe.web.routes import FAIL, add_routes
from dfpipe.web.service import Service
from dfpipe.web.settings import Settings
from dfpipe.web.supervisor import Supervisor
from dfpipe.web.uploads import full_disk


def create_app(settings: Settings, store: JobStore, worker: Supervisor) -> FastAPI:
    """The service as an ASGI application.

    Args:
        settings: Of the service.
        store: The jobs.
        worker: Started and ended with the application.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await run_in_threadpool(worker.stop)

    app = FastAPI(
        title="dfpipe",
        version=__version__,
        description="Deepfake detection: upload clips and stills, get verdicts that a person can check. "
        "A verdict is evidence, not proof.",
        docs_url=None,  # these two pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        responses={
            400: {**FAIL, "description": "Not a request for this service."},
            413: {**FAIL, "description": "Too big."},
        },
    )
    _handle_errors(app)
    add_routes(app, Service(settings, store, worker))
    _describe_key(app, settings)
    app.add_middleware(Guard, settings=settings)
    return app


def _handle_errors(app: FastAPI) -> None:
    """Gives every error the same form."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(answer(error.code, str(error)), error.status, error.headers)

    @app.exception_handler(ResourceError)
    async def full(request: Request, error: ResourceError) -> Response:
        no = full_disk()
        return JSONResponse(answer(no.code, str(no)), no.status)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "no_such_method"}.get(error.status_code, "refused")
        return JSONResponse(answer(code, str(error.detail)), error.status_code, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def senseless(request: Request, error: RequestValidationError) -> Response:
        found = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return JSONResponse(answer("bad_value", found), 422)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        return JSONResponse(answer("internal", "internal error, please report it; the server's log says more"), 500)


def _describe_key(app: FastAPI, settings: Settings) -> None:
    """Says in the OpenAPI file that a key is needed, where one is."""
    if settings.key is None:
        return
    plain: Callable[[], dict[str, Any]] = app.openapi

    def with_key() -> dict[str, Any]:
        described = plain()
        described.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, methods in described["paths"].items():
            for operation in methods.values():
                if path not in ("/healthz", "/readyz"):
                    operation["security"] = [{"key": []}]
                    error = {"$ref": "#/components/schemas/Error"}
                    operation["responses"]["401"] = {
                        "description": "Without the API key.",
                        "content": {"application/json": {"schema": error}},
                    }
        return described

    app.openapi = with_key  # type: ignore[method-assign]
