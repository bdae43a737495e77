"""The worker: one process with the model loaded once, that judges queued jobs one after the other.

It knows the server only through the job store and a pipe. Untrusted bytes are parsed one process further down, see
`dfpipe.infer.detector`.
"""

import hashlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dfpipe.errors import DfpipeError, ResourceError
from dfpipe.sandbox import die_with_parent
from dfpipe.web.jobs import JobStore, Outcome, Row
from dfpipe.web.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 0.1  # between two looks for a job
# What is done when a stage begins. Of a clip of ten seconds on two cores, finding the faces takes most of the time.
SHARES = {"reading": 0.0, "scoring": 0.6, "writing": 0.8}


def work(settings: Settings, server: int, pipe: Connection) -> None:
    """The worker process. Says what its model is, or why it cannot start, then works until it is killed.

    Args:
        settings: Of the service.
        server: Process id of the server; the worker dies with it.
        pipe: To the server.
    """
    die_with_parent(server)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server ends the worker
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # on the way out the child is killed and its files are removed
    tempfile.tempdir = str(settings.scratch)  # what a kill leaves there is swept at the next start
    worker = None
    try:
        worker = Worker(settings, server)
        worker.run(on_ready=lambda: pipe.send(worker.about()))
    except DfpipeError as error:
        if worker is not None and worker.ready:
            raise  # as of a full disk: another worker will go on
        pipe.send(error)


class _Deleted(Exception):
    """The job that is being judged was deleted."""


class Worker:
    """Judges queued jobs.

    Args:
        settings: Of the service.
        server: Process id of the server.

    Raises:
        ModelFileError: There is no model, or it is refused.
    """

    def __init__(self, settings: Settings, server: int) -> None:
        from dfpipe.infer.detector import Detector

        self._settings, self._server = settings, server
        self._store = JobStore(settings.database, settings.queue)
        config = settings.config
        self._detector = Detector.load(
            settings.model, settings.device, config.infer, config.preprocess.limits, settings.frames, later=True
        )
        self._job: Row | None = None  # at which it is
        self._looked = settings.scratch / "looked"  # as long as frames of this job were looked at
        self.ready = False  # a sample is judged first: then all is loaded, and known to work

    def about(self) -> dict[str, Any]:
        """What is told of the model."""
        from dfpipe.infer.report import measured_error
        from dfpipe.infer.words import NOT_TOLD

        card = self._detector.model.card
        kinds = {"Clips": "video", "Stills": "image"}
        measured = {what: measured_error(card, {"media": {"kind": kind}}) for what, kind in kinds.items()}
        same = measured["Clips"] == measured["Stills"]
        told = measured["Clips"] if same else [f"{what}: {text}" for what, texts in measured.items() for text in texts]
        return {
            "name": card.name,
            "sha256": self._detector.model.sha256,
            "architecture": card.architecture,
            "threshold": card.threshold,
            "band": list(card.band),
            "calibrated": card.calibration is not None,
            "measured": told,
            "limits": list(NOT_TOLD),
        }

    def run(self, on_ready: Callable[[], object]) -> None:
        """Judges jobs as they come, for ever. What goes wrong with one of them ends that one only.

        Args:
            on_ready: Called when everything is loaded.
        """
        while True:
            try:
                found = self._detector.examine(self._uploads(), workers=1, on_faces=self._on_faces, looked=self._looked)
                for judged in found:
                    if self.ready:
                        self._finish(judged)
                    else:
                        self._check(judged)
                        on_ready()
            except _Deleted:
                self._job = None
            except Exception as error:  # a bug met on one job must not stop the others
                if self._job is None:
                    raise
                self._give_up(self._job, error)
                self._job = None

    def _give_up(self, job: Row, error: Exception) -> None:
        """Ends a job that could not be finished. Where things lie on this machine stands in the log only."""
        log.error("job %s: %s", job["id"], error, exc_info=not isinstance(error, DfpipeError))
        told = f"the service could not finish it ({type(error).__name__}): its log says more"
        if isinstance(error, ResourceError):
            told = "the disk of the service is full: delete old jobs, or ask who runs it"
        self._store.fail(job["id"], told)

    def _check(self, judged: Any) -> None:
        """Looks at what became of the sample.

        Raises:
            DfpipeError: It was not judged, so nothing ever would be.
        """
        if judged.verdict.verdict == "ERROR":
            raise DfpipeError(f"a sample picture cannot be judged here ({judged.verdict.reason}): run 'dfpipe doctor'")
        self.ready = True

    def _uploads(self) -> Iterator[Any]:
        """The next job's file whenever the worker is free; None while there is nothing to begin."""
        from dfpipe.infer.inputs import Upload

        if not self.ready:
            yield Upload(_sample(self._settings.scratch))
        while not self.ready:
            time.sleep(POLL_S)
            yield None
        while True:
            if self._job is None:
                self._job = self._store.claim()
                if self._job is not None and self._taken_over(self._job):
                    self._job = None
                    continue
                if self._job is not None:
                    self._looked.unlink(missing_ok=True)
                    yield Upload(self._settings.uploads / self._job["id"])
                    continue
            elif not self._store.exists(self._job["id"]):
                raise _Deleted  # the child that reads it is killed on the way out
            else:
                self._tell_frames(self._job)
            if os.getppid() != self._server:
                os._exit(1)  # where the system does not do it, see `die_with_parent`
            time.sleep(POLL_S)
            yield None

    def _tell_frames(self, job: Row) -> None:
        """Tells how far the reading of a clip has come."""
        frames = self._looked.stat().st_size if self._looked.exists() else 0
        share = SHARES["scoring"] * min(frames / self._detector.model.card.faces.frames, 1)
        if share > job["progress"]:
            job["progress"] = share
            self._store.progress(job["id"], "reading", share)

    def _on_faces(self, upload: Any) -> None:
        if self._job is not None:
            self._tell(self._job, "scoring")

    def _tell(self, job: Row, stage: str) -> None:
        self._store.progress(job["id"], stage, SHARES[stage])

    def _finish(self, judged: Any) -> None:
        """Writes the report on the job and ends it."""
        from dfpipe.infer.judging import publish

        job = self._job
        assert job is not None
        self._tell(job, "writing")
        folder = self._settings.results / job["id"]
        # People know the file by its name; where it lies here is nobody's business.
        named = replace(judged, verdict=replace(judged.verdict, path=job["name"]))
        line = publish(named, folder, self._detector, self._options(job))
        outcome = Outcome(
            line["verdict"], line["p_fake"], line["reason"], self._print(job), line.get("overlay", {}).get("file")
        )
        if not self._store.finish(job["id"], outcome):
            shutil.rmtree(folder, ignore_errors=True)  # deleted meanwhile
        self._job = None

    def _taken_over(self, job: Row) -> bool:
        """Ends a job with the results of an earlier one on the same bytes, if there is one."""
        twin = self._store.twin(job["sha256"], self._print(job))
        if twin is None:
            return False
        folder = self._settings.results / job["id"]
        try:
            _link_tree(self._settings.results / twin["id"], folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # it was deleted at this moment, or links are not to be had here
            return False
        outcome = Outcome(
            twin["verdict"], twin["p_fake"], twin["reason"], twin["settings"], twin["overlay_file"], reused=True
        )
        if not self._store.finish(job["id"], outcome):
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _options(self, job: Row) -> Any:
        from dfpipe.infer.judging import Options

        return Options(overlay=bool(job["overlay"]))

    def _print(self, job: Row) -> str:
        """All that shapes the results of a job, beside its bytes."""
        from dfpipe.infer.judging import settings_of

        return hashlib.sha256(settings_of(self._detector, self._options(job)).encode()).hexdigest()


def _sample(folder: Path) -> Path:
    """A small grey picture."""
    import numpy as np

    from dfpipe.preprocess.crops import encode_png

    path = folder / "sample.png"
    path.write_bytes(encode_png(np.full((64, 64, 3), 128, np.uint8)))
    return path


def _link_tree(old: Path, new: Path) -> None:
    """A second name for every file in a folder: no bytes are copied, and each may be deleted without the other."""
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for file in old.iterdir():
        os.link(file, new / file.name)
