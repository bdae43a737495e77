"""What the routes do: take uploads into the queue, find jobs and show them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from dfpipe.errors import ResourceError
from dfpipe.web.jobs import JobStore, NewJob, QueueFull, Row, new_id
from dfpipe.web.refusal import Refused
from dfpipe.web.schema import job_view
from dfpipe.web.settings import Settings
from dfpipe.web.supervisor import Supervisor
from dfpipe.web.uploads import Limits, Receiver, check_disk, full_disk, too_big

PATIENCE_S = (5, 300)  # bounds of what Retry-After says
JUDGING_S = 10.0  # of one job, as long as none was judged: a guess


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

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place in the queue while an upload comes, so that no more come than can be kept.

        Raises:
            Refused: 429, there is none.
        """
        waiting = await run_in_threadpool(self.store.waiting)  # the loop must never wait for a disk
        if waiting + self.receiving >= self.settings.queue:
            raise await run_in_threadpool(self.full)
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
        return job_view(row, self.settings.keep_days)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
