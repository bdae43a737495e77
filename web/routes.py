"""The routes: the API under /v1, what those who run the service look at, and the page."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from dfpipe.web import metrics, schema
from dfpipe.web.guard import REPORT_POLICY
from dfpipe.web.jobs import Wanted
from dfpipe.web.media import OTHER, TYPES
from dfpipe.web.refusal import Refused
from dfpipe.web.service import Service
from dfpipe.web.supervisor import remove_files
from dfpipe.web.uploads import FILES, OVERLAY, Receiver, receive

PAGE = Path(__file__).parent / "page"
MOST = 200  # jobs in one list
FAR = 1_000_000_000  # how far a list can be paged: SQLite's numbers end somewhere
Responses = dict[int | str, dict[str, Any]]
FAIL: dict[str, Any] = {"model": schema.Error}
NO_JOB: Responses = {404: {**FAIL, "description": "No such job."}}
REPORT: Responses = {
    **NO_JOB,
    200: {
        "description": "The report.",
        "content": {"text/html": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}},
    },
    409: {**FAIL, "description": "There is no report (yet)."},
}
PART: Responses = {206: {"description": "A part of it."}, 416: {"description": "No such part."}}
JobId = Annotated[str, InPath(examples=[schema.EXAMPLE_ID])]


def add_routes(app: FastAPI, service: Service) -> None:
    """Adds all of them."""
    for add in (_add_uploads, _add_jobs, _add_report, _add_files, _add_about, _add_operation, _add_page):
        add(app, service)


def _add_uploads(app: FastAPI, service: Service) -> None:
    form = {
        "type": "object",
        "required": [FILES],
        "properties": {
            FILES: {
                "type": "array",
                "minItems": 1,
                "maxItems": service.settings.queue,
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
        async with service.place():
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

    @app.get("/v1/jobs/{job_id}", response_model=schema.Job, summary="One job", responses=_with_422(NO_JOB))
    def job(job_id: JobId) -> Any:
        return service.view(service.job(job_id))

    @app.delete(
        "/v1/jobs/{job_id}",
        status_code=204,
        response_class=Response,
        summary="Forget a job, its file and its report, whatever its state",
        responses=_with_422({**NO_JOB, 403: {**FAIL, "description": "Sent by another site's page."}}),
    )
    def delete(job_id: JobId) -> Response:
        service.job(job_id)
        service.store.delete(job_id)
        remove_files(service.settings, job_id)
        return Response(status_code=204)


def _add_report(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/jobs/{job_id}/report",
        response_class=Response,
        summary="The report, as a page or as JSON",
        responses=_with_422(REPORT),
    )
    def report(request: Request, job_id: JobId, format: Literal["html", "json"] | None = None) -> Response:
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


def _add_files(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/jobs/{job_id}/overlay",
        response_class=Response,
        summary="The clip or still with boxes and scores",
        responses=_with_422({**NO_JOB, 200: _binary("The clip (MP4) or still (JPG).", "video/mp4", "image/jpeg")}),
    )
    def overlay(job_id: JobId) -> Response:
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
        responses=_with_422({**NO_JOB, 200: _binary("As it was sent.", "*/*"), **PART}),
    )
    def media(job_id: JobId) -> Response:
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


def _with_422(responses: Responses) -> Responses:
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
