"""The routes: the page, the API under /v1, and what those who run the service look at."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dfpipe import __version__
from dfpipe.errors import ResourceError
from dfpipe.web import metrics, schema
from dfpipe.web.guard import REPORT_POLICY, Guard
from dfpipe.web.jobs import JobStore, NewJob, QueueFull, Row, Wanted, new_id
from dfpipe.web.media import OTHER, TYPES
from dfpipe.web.refusal import Refused, answer
from dfpipe.web.settings import Settings
from dfpipe.web.supervisor import Supervisor, remove_files
from dfpipe.web.uploads import FILES, OVERLAY, Limits, Receiver, check_disk, full_disk, receive, too_big

PAGE = Path(__file__).parent / "page"
MOST = 200  # jobs in one list
FAR = 1_000_000_000  # how far a list can be paged: SQLite's numbers end somewhere
PATIENCE_S = (5, 300)  # bounds of what Retry-After says
JUDGING_S = 10.0  # of one job, as long as none was judged: a guess
FAIL = {"model": schema.Error}


class Service:
    """What the routes work with.

    Args:
        settings: Of the service.
        store: The jobs.
        worker: That judges them.
    """

    def __init__(self, settings: Settings, store: JobStore, worker: Supervisor) -> None:
        self.settings, self.store, self.worker = settings, store, worker
        self.receiving = 0
        self.limits = Limits(
            max_bytes=settings.max_bytes,
            max_files=settings.queue,
            min_free_bytes=settings.min_free_bytes,
            chunk_seconds=settings.chunk_seconds,
            min_rate=settings.min_rate,
        )

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place in the queue while an upload comes, so that no more come than can be kept.

        Raises:
            Refused: 429, there is none.
        """
        if self.store.waiting() + self.receiving >= self.settings.queue:
            raise self.full()
        self.receiving += 1
        try:
            yield
        finally:
            self.receiving -= 1

    def full(self) -> Refused:
        """The answer while the queue is full."""
        counters = self.store.counters()
        each = counters.get("judging_seconds", 0) / counters["judged"] if counters.get("judged") else JUDGING_S
        wait = min(max(round(each * max(self.store.waiting(), 1)), PATIENCE_S[0]), PATIENCE_S[1])
        message = f"{self.settings.queue} files may wait and as many do: try again in {wait} s"
        return Refused(429, "queue_full", message, {"Retry-After": str(wait)})

    def check_length(self, length: str | None) -> None:
        """Refuses a body that says itself that it is too long.

        Raises:
            Refused: 413, or 507 where the disk has no room for it.
        """
        size = int(length) if length is not None and length.isdecimal() else 0
        if size > self.limits.body_bytes:
            raise too_big(self.settings.max_bytes)
        check_disk(self.settings.uploads, size, self.settings.min_free_bytes)

    def keep(self, receiver: Receiver) -> list[Row]:
        """Makes jobs of what came, all or none.

        Raises:
            Refused: No file came whole, or there is no place in the queue any more.
        """
        overlay = receiver.end()
        jobs = [NewJob(new_id(), f.name, f.size, f.sha256, f.content_type, overlay) for f in receiver.files]
        placed = [self.settings.uploads / job.id for job in jobs]
        try:
            for file, path in zip(receiver.files, placed, strict=True):
                file.path.replace(path)
            self.store.add(jobs)
        except QueueFull as error:
            _remove(placed)
            raise self.full() from error
        except ResourceError as error:
            _remove(placed)
            raise full_disk() from error
        return [row for job in jobs if (row := self.store.get(job.id)) is not None]

    def job(self, job_id: str) -> Row:
        """One job.

        Raises:
            Refused: 404.
        """
        row = self.store.get(job_id)
        if row is None:
            raise Refused(404, "no_job", "there is no such job: it was deleted, has expired, or never was")
        return row

    def view(self, row: Row) -> dict[str, Any]:
        """A job as it is shown."""
        return schema.job_view(row, self.settings.keep_days)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


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
        description="Deepfake detection: upload clips and stills, get verdicts that a person can check. A verdict is evidence, not proof.",
        docs_url=None,  # these two pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        responses={
            400: {**FAIL, "description": "Not a request for this service."},
            413: {**FAIL, "description": "Too big."},
        },
    )
    service = Service(settings, store, worker)
    _handle_errors(app)
    for add in (_add_uploads, _add_jobs, _add_about, _add_operation, _add_page):
        add(app, service)
    _describe_key(app, settings)
    app.add_middleware(Guard, settings=settings)
    return app


def _add_uploads(app: FastAPI, service: Service) -> None:
    form = {
        "type": "object",
        "required": [FILES],
        "properties": {
            FILES: {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "format": "binary"},
                "description": "Clips or stills.",
            },
            OVERLAY: {"type": "boolean", "default": False, "description": "Draw boxes and scores on each clip too."},
        },
    }

    @app.post(
        "/v1/jobs",
        status_code=202,
        response_model=schema.NewJobs,
        summary="Upload files to be judged",
        responses={
            403: {**FAIL, "description": "Sent by another site's page."},
            408: {**FAIL, "description": "Too slow."},
            415: {**FAIL, "description": "Not multipart/form-data."},
            422: {**FAIL, "description": "No file in it."},
            429: {
                **FAIL,
                "description": "The queue is full.",
                "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
            },
            507: {**FAIL, "description": "The disk is full."},
        },
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}},
    )
    async def upload(request: Request) -> Any:
        receiver = Receiver(service.settings.uploads, request.headers.get("content-type", ""), service.limits)
        with service.place():
            try:
                service.check_length(request.headers.get("content-length"))
                await receive(request.stream(), receiver, service.limits)
                rows = await run_in_threadpool(service.keep, receiver)
            except ClientDisconnect as error:
                raise Refused(400, "cut_form", "the upload was broken off") from error
            finally:
                receiver.discard()
        return {"jobs": [service.view(row) for row in rows]}


def _add_jobs(app: FastAPI, service: Service) -> None:
    one: dict[int | str, dict[str, Any]] = {404: {**FAIL, "description": "No such job."}}
    job_id = Annotated[str, InPath(examples=[schema.EXAMPLE_ID])]

    @app.get(
        "/v1/jobs",
        response_model=schema.JobList,
        summary="List jobs, newest first",
        responses={422: {**FAIL, "description": "A filter makes no sense."}},
    )
    def jobs(
        state: schema.JobState | None = None,
        verdict: schema.Kind | None = None,
        q: Annotated[str, Query(max_length=200, description="Part of a name, or the beginning of a SHA-256.")] = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
        offset: Annotated[int, Query(ge=0, le=FAR)] = 0,
    ) -> Any:
        rows, total = service.store.find(Wanted(state, verdict, q), limit, offset)
        return {"jobs": [service.view(row) for row in rows], "total": total}

    @app.get("/v1/jobs/{job_id}", response_model=schema.Job, summary="One job", responses=_with_422(one))
    def job(job_id: job_id) -> Any:  # type: ignore[valid-type]
        return service.view(service.job(job_id))

    @app.delete(
        "/v1/jobs/{job_id}",
        status_code=204,
        response_class=Response,
        summary="Forget a job, its file and its report, whatever its state",
        responses=_with_422({**one, 403: {**FAIL, "description": "Sent by another site's page."}}),
    )
    def delete(job_id: job_id) -> Response:  # type: ignore[valid-type]
        service.job(job_id)
        service.store.delete(job_id)
        remove_files(service.settings, job_id)
        return Response(status_code=204)

    @app.get(
        "/v1/jobs/{job_id}/report",
        response_class=Response,
        summary="The report, as a page or as JSON",
        responses=_with_422(
            {
                **one,
                200: {
                    "description": "The report.",
                    "content": {
                        "text/html": {"schema": {"type": "string"}},
                        "application/json": {"schema": {"type": "object"}},
                    },
                },
                409: {**FAIL, "description": "There is no report (yet)."},
            }
        ),
    )
    def report(request: Request, job_id: job_id, format: Literal["html", "json"] | None = None) -> Response:  # type: ignore[valid-type]
        row = service.job(job_id)
        if row["state"] != "done":
            told = f"the job failed: {row['error']}" if row["state"] == "failed" else f"the job is {row['state']}"
            raise Refused(409, "no_report", f"{told}; there is no report")
        as_json = format == "json" or (format is None and "application/json" in request.headers.get("accept", ""))
        folder = service.settings.results / row["id"]
        if as_json:
            return Response(_bytes(folder / "report.json"), media_type="application/json")
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return Response(_bytes(folder / "report.html"), media_type="text/html", headers=headers)

    @app.get(
        "/v1/jobs/{job_id}/overlay",
        response_class=Response,
        summary="The clip or still with boxes and scores",
        responses=_with_422({**one, 200: _binary("The clip (MP4) or still (JPG).", "video/mp4", "image/jpeg")}),
    )
    def overlay(job_id: job_id) -> Response:  # type: ignore[valid-type]
        row = service.job(job_id)
        if not row["overlay_file"]:
            raise Refused(404, "no_overlay", "there is no overlay: it was not asked for, or could not be drawn")
        path = service.settings.results / row["id"] / row["overlay_file"]
        return _file(path, "video/mp4" if path.suffix == ".mp4" else "image/jpeg", path.name)

    # A report links its overlay by name, beside itself.
    for name in ("overlay.mp4", "overlay.jpg"):
        app.get(f"/v1/jobs/{{job_id}}/{name}", include_in_schema=False)(overlay)

    @app.get(
        "/v1/jobs/{job_id}/media",
        response_class=Response,
        summary="The uploaded file",
        responses=_with_422(
            {
                **one,
                200: _binary("As it was sent.", "*/*"),
                206: {"description": "A part of it."},
                416: {"description": "No such part."},
            }
        ),
    )
    def media(job_id: job_id) -> Response:  # type: ignore[valid-type]
        row = service.job(job_id)
        return _file(service.settings.uploads / row["id"], row["content_type"], row["name"])


def _add_about(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/model",
        response_model=schema.Model,
        summary="The model that judges",
        responses={503: {**FAIL, "description": "It is being loaded."}},
    )
    def model() -> Any:
        about = service.worker.model
        if about is None:
            raise _not_ready()
        return about

    @app.get("/v1/limits", response_model=schema.ServiceLimits, summary="What may be uploaded")
    def limits() -> Any:
        settings = service.settings
        return {
            "max_bytes": settings.max_bytes,
            "queue": settings.queue,
            "keep_days": settings.keep_days,
            "types": list(TYPES),
        }


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=schema.Health, summary="Whether the server answers")
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        response_model=schema.Health,
        summary="Whether the worker has its model",
        responses={503: {**FAIL, "description": "Not yet."}},
    )
    async def readyz() -> Any:
        if service.worker.model is None:
            raise _not_ready()
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse, summary="Figures for Prometheus")
    def figures() -> Response:
        store, ready = service.store, service.worker.model is not None
        body = metrics.text(store.counters(), store.by_state(), service.receiving, ready)
        return Response(body, headers={"Content-Type": metrics.CONTENT_TYPE})


def _add_page(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE))


def _handle_errors(app: FastAPI) -> None:
    """Gives every error the same form."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(answer(error.code, str(error)), error.status, error.headers)

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


def _with_422(responses: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """FastAPI would describe its own form of this error, which we do not use."""
    return {**responses, 422: {**FAIL, "description": "A value makes no sense."}}


def _binary(what: str, *types: str) -> dict[str, Any]:
    return {
        "description": what,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in types},
    }


def _not_ready() -> Refused:
    return Refused(503, "not_ready", "the model is being loaded: try again in a few seconds", {"Retry-After": "5"})


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _gone() from error


def _file(path: Path, kind: str, name: str) -> Response:
    """A file, or the part of it that was asked for. What is neither picture nor clip is only ever saved."""
    if not path.is_file():
        raise _gone()
    return FileResponse(
        path, media_type=kind, filename=name, content_disposition_type="attachment" if kind == OTHER else "inline"
    )


def _gone() -> Refused:
    return Refused(404, "gone", "the file is not there any more")
