"""The forms of the API's answers, as they stand in its OpenAPI file."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dfpipe.web.jobs import DAY_S, Row

JobState = Literal["queued", "running", "done", "failed"]
Kind = Literal["FAKE", "REAL", "UNCERTAIN", "NO_FACE", "ERROR"]
EXAMPLE_ID = "5e7c1a0f9b2d4c6e8a1b3c5d7e9f0a2b"


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs.", examples=["queue_full"])
    message: str = Field(description="For people.", examples=["8 jobs wait already and 8 may: try again later"])


class Error(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorBody


class Links(BaseModel):
    """Paths of what belongs to a job."""

    self: str
    report: str
    report_json: str
    overlay: str | None = Field(description="null where there is none (yet).")
    media: str


class Job(BaseModel):
    """One uploaded file and what became of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_ID,
                    "name": "clip.mp4",
                    "bytes": 1834021,
                    "sha256": "9f2c" * 16,
                    "state": "done",
                    "place": None,
                    "stage": None,
                    "progress": 1.0,
                    "created": "2025-01-31T12:00:00Z",
                    "started": "2025-01-31T12:00:01Z",
                    "ended": "2025-01-31T12:00:04Z",
                    "expires": "2025-03-02T12:00:04Z",
                    "verdict": "FAKE",
                    "p_fake": 0.93,
                    "reason": "person 1 scores 0.93 over 31 frames",
                    "error": None,
                    "reused": False,
                    "links": {
                        "self": f"/v1/jobs/{EXAMPLE_ID}",
                        "report": f"/v1/jobs/{EXAMPLE_ID}/report",
                        "report_json": f"/v1/jobs/{EXAMPLE_ID}/report?format=json",
                        "overlay": None,
                        "media": f"/v1/jobs/{EXAMPLE_ID}/media",
                    },
                }
            ]
        }
    )

    id: str = Field(description="Random; who knows it (and the API key, if there is one) can see the job.")
    name: str = Field(description="The file's name, cleaned; for reading only.")
    bytes: int
    sha256: str | None
    state: JobState = Field(
        description="done: there is a verdict, which may be ERROR; failed: the service could not finish."
    )
    place: int | None = Field(description="In the queue; 1 = next.")
    stage: Literal["reading", "scoring", "writing"] | None
    progress: float | None = Field(description="0 to 1.")
    created: str = Field(description="ISO 8601, UTC.")
    started: str | None
    ended: str | None
    expires: str | None = Field(description="When it will be forgotten.")
    verdict: Kind | None
    p_fake: float | None = Field(description="0 to 1; null without a face.")
    reason: str
    error: str | None = Field(description="Why it failed.")
    reused: bool = Field(description="The results are those of an earlier job on the same bytes, model and settings.")
    links: Links


class NewJobs(BaseModel):
    """The jobs that an upload made."""

    jobs: list[Job]


class JobList(BaseModel):
    """Some jobs, newest first."""

    jobs: list[Job]
    total: int = Field(description="How many there are with these filters.")


class Model(BaseModel):
    """The model that judges."""

    name: str
    sha256: str
    architecture: str
    threshold: float = Field(description="p_fake from which on the answer is FAKE.")
    band: list[float] = Field(description="p_fake inside it is UNCERTAIN.")
    calibrated: bool
    measured: list[str] = Field(description="How often it is wrong, as far as that was measured.")
    limits: list[str] = Field(description="What a verdict does not tell.")


class ServiceLimits(BaseModel):
    """What the service takes."""

    max_bytes: int = Field(description="Of one file.")
    queue: int = Field(description="Jobs that may wait, and files in one upload.")
    keep_days: float
    types: list[str]


class Health(BaseModel):
    """Whether it answers."""

    status: Literal["ok", "ready"]


def job_view(row: Row, keep_days: float) -> dict[str, Any]:
    """A job as it is shown.

    Args:
        row: From the store, with its `place`.
        keep_days: For which a finished job is kept.
    """
    path = f"/v1/jobs/{row['id']}"
    ended = row["ended"]
    return {
        **{key: row[key] for key in ("id", "name", "bytes", "sha256", "state", "place", "stage", "progress")},
        **{key: row[key] for key in ("verdict", "p_fake", "reason", "error")},
        "created": iso(row["created"]),
        "started": iso(row["started"]),
        "ended": iso(ended),
        "expires": iso(ended + keep_days * DAY_S if ended is not None else None),
        "reused": bool(row["reused"]),
        "links": {
            "self": path,
            "report": f"{path}/report",
            "report_json": f"{path}/report?format=json",
            "overlay": f"{path}/overlay" if row["overlay_file"] else None,
            "media": f"{path}/media",
        },
    }


def iso(at: float | None) -> str | None:
    """A time in s since 1970 as ISO 8601 in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
