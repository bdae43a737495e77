"""Judge many inputs into one folder: each exactly once, with a report, whatever happens in between."""

import json
import logging
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.config import to_mapping
from dfpipe.errors import ConfigError, MediaError
from dfpipe.files import atomic_folder, scratch_folder, sha256_file
from dfpipe.infer.detector import Detector, Judged
from dfpipe.infer.drawing import Mark
from dfpipe.infer.inputs import Upload
from dfpipe.infer.overlay import OverlayJob, overlay_task, start_overlay
from dfpipe.infer.report import OVERLAY, PAGE, write_report
from dfpipe.infer.verdicts import Facts, Line, VerdictFolder, folder_name, to_json
from dfpipe.names import as_text
from dfpipe.store import Url
from dfpipe.types import State
from dfpipe.workers import Engine, run_all

log = logging.getLogger(__name__)

WAIT_S = 0.05  # between two looks at whether a file of the same size is done
OVERLAY_PATIENCE = 5.0  # times the wall limit of one input: every frame is decoded, drawn on and encoded


@dataclass(frozen=True)
class Options:
    """What `judge_into` makes, and how."""

    heatmap: bool = False
    overlay: bool = False
    redo: tuple[str, ...] = ()  # states that are judged again
    engine: Engine = "local"
    workers: int = 0


@dataclass(frozen=True)
class Told:
    """One input that is dealt with."""

    line: Line
    fresh: bool  # judged now, not by an earlier run


def judge_into(
    detector: Detector, uploads: Iterable[Upload | None], out: Path | Url, options: Options | None = None
) -> Iterator[Told]:
    """Judges inputs, writes reports, and yields each verdict as it stands in verdicts.jsonl, in any order.

    A file that an earlier run judged with the same model and settings is not opened again; nor is one whose bytes were
    judged under another name: it gets the same verdict, with a pointer in `same_as`.

    Args:
        detector: The model.
        uploads: What to judge; a None in between means "nothing for now".
        out: Folder of the verdicts. One in a store gets reports as they are made, a copy of the ledger every minute, and
            the tables at the end.
        options: See `Options`.

    Raises:
        UsageError: Another run writes to `out`, or heat-maps cannot be had of this network.
        ConfigError: Unknown state in `redo`.
        ResourceError: The disk is full, or the store takes nothing; what was judged is kept.
    """
    options = options or Options()
    if options.heatmap:
        from dfpipe.infer.heatmap import check_heatmap

        check_heatmap(detector.model.network, detector.model.card.image_size)
    for state in options.redo:
        if state not in set(State):
            raise ConfigError(f"unknown state {state!r} for --redo; there are: {', '.join(State)}")
    with ExitStack() as stack:
        url = out if isinstance(out, Url) else None
        place = stack.enter_context(scratch_folder()) / "out" if isinstance(out, Url) else out
        folder = stack.enter_context(VerdictFolder(place, settings_of(detector, options), url))
        queue = _Queue(folder, options.redo)
        for judged in detector.examine(queue.wanted(uploads), options.engine, options.workers):
            yield from queue.known()
            name = folder_name(judged.verdict.path, judged.verdict.media_sha256)
            line = publish(judged, folder.folder / name, detector, options)
            queue.finish(judged.upload, line)
            folder.send(name)
            yield Told(line, fresh=True)
        yield from queue.known()


def settings_of(detector: Detector, options: Options) -> str:
    """All that shapes a verdict and its report, as one text."""
    card = detector.model.card
    told = {
        "model": detector.model.sha256,
        "faces": to_mapping(card.faces),
        "infer": {key: value for key, value in to_mapping(detector.config).items() if key != "batch_size"},
        "limits": to_mapping(detector.limits),
        "heatmap": options.heatmap,
        "overlay": options.overlay,
        "dfpipe": __version__,
    }
    return json.dumps(told, sort_keys=True)


class _Queue:
    """Sorts uploads into those to be judged and those whose verdict is known."""

    def __init__(self, folder: VerdictFolder, redo: tuple[str, ...]) -> None:
        self._folder, self._redo = folder, redo
        self._facts: dict[Upload, Facts | None] = {}  # of what is being judged
        self._held: list[Upload] = []  # of the same size as one that is being judged: perhaps the same file
        self._known: deque[str] = deque()  # keys: thousands of lines would fill the memory

    def wanted(self, uploads: Iterable[Upload | None]) -> Iterator[Upload | None]:
        """Those to be judged."""
        for upload in uploads:
            if upload is None:
                yield from self._free()
                yield None
            elif (now := self._sorted(upload)) is not None:
                yield now
        while self._held:
            yield from self._free()
            time.sleep(WAIT_S)
            yield None

    def known(self) -> Iterator[Told]:
        """Those whose verdict was known, since this was asked last."""
        while self._known:
            if (line := self._folder.line(self._known.popleft())) is not None:
                yield Told(line, fresh=False)

    def finish(self, upload: Upload, line: Line) -> None:
        """Writes down the verdict of one that was judged."""
        self._folder.add(upload, self._facts.pop(upload), line)

    def _free(self) -> Iterator[Upload]:
        """Those that were held back and need not wait any more."""
        held, self._held = self._held, []
        for upload in held:
            if (now := self._sorted(upload)) is not None:
                yield now

    def _sorted(self, upload: Upload) -> Upload | None:
        """The upload if it is to be judged now."""
        if upload in self._facts or upload in self._held:
            return None  # named twice
        facts = Facts.of(upload)
        state = self._folder.judged(upload, facts)
        if state is None and facts is not None and not upload.member and upload.origin is None:
            if any(f == facts.size for f in self._sizes()):
                self._held.append(upload)
                return None
            state = self._same(upload, facts)
        if state is not None and state not in self._redo:
            self._known.append(as_text(str(upload)))
            return None
        self._facts[upload] = facts
        return upload

    def _sizes(self) -> Iterator[int]:
        return (facts.size for upload, facts in self._facts.items() if facts is not None and not upload.member)

    def _same(self, upload: Upload, facts: Facts) -> State | None:
        """The state of the same bytes under another name, whose verdict is written down for this one too."""
        if not self._folder.may_be_known(facts):
            return None
        try:
            twin = self._folder.same_content(facts.size, sha256_file(upload.path))
        except MediaError:
            return None  # judging it will say why
        if twin is None or twin["state"] in self._redo:
            return None
        line = {**twin, "path": str(upload), "same_as": twin.get("same_as", twin["path"])}
        self._folder.add(upload, facts, line)
        return State(line["state"])


def publish(judged: Judged, folder: Path, detector: Detector, options: Options) -> Line:
    """Writes the report on one input, whole or not at all.

    Args:
        judged: The verdict with its evidence.
        folder: Of this input alone; what is in it is replaced.
        detector: Which gave the verdict.
        options: Whether heat-maps and the overlay are wanted.

    Returns:
        The verdict as it stands in verdicts.jsonl.

    Raises:
        ResourceError: The disk is full.
    """
    line = to_json(judged.verdict)
    line["report"] = f"{folder.name}/{PAGE}"
    with atomic_folder(folder) as inside:
        if options.overlay and judged.verdict.scores:
            line["overlay"] = _overlay(judged, inside, detector, options)
        write_report(inside, judged, line, detector, options.heatmap)
    return line


def _overlay(judged: Judged, folder: Path, detector: Detector, options: Options) -> dict[str, Any]:
    """Draws the clip with boxes, in a worker. Its failure is told and costs nothing else."""
    verdict = judged.verdict
    out = folder / (OVERLAY + (".mp4" if verdict.kind == "video" else ".jpg"))
    marks = tuple(
        Mark(s.frame_index, s.time_s, s.track, crop.box, s.p_fake)
        for s, crop in zip(verdict.scores, judged.crops, strict=True)
    )
    job = OverlayJob(
        path=judged.upload.path,
        out=out,
        marks=marks,
        verdicts={person.track: str(person.verdict) for person in verdict.people},
        sampled=judged.looked_at,
        headline=f"{verdict.verdict} {verdict.p_fake:.2f}  {verdict.model_name}",
        reader=detector.model.card.faces.reader,
        limits=detector.limits.patient(OVERLAY_PATIENCE),
    )
    task = partial(_draw, judged.upload)
    here = "serial" if options.engine == "serial" else "local"  # where the folder is, whatever reads the inputs
    ((_, note),) = run_all(task, [job], setup=start_overlay, engine=here, workers=1, bounds=job.limits)
    if isinstance(note, MediaError):
        out.unlink(missing_ok=True)
        log.warning("%s: no overlay: %s", judged.upload, note)
        return {"file": None, "note": str(note)}
    return {"file": out.name, "note": note}


def _draw(upload: Upload, job: OverlayJob) -> str:
    with upload.as_file(Path(tempfile.gettempdir()), job.limits) as path:
        return overlay_task(replace(job, path=path))
