"""The room's verb: a model file and media to verdicts.

Untrusted bytes are parsed in killable child processes, which find and cut the faces exactly as extraction does, with the
settings in the model file. The network scores the crops here, on the GPU if there is one; with the engine `ray` each actor
holds the network and scores what its child has found.

    from dfpipe import Detector

    detector = Detector.load()
    verdict = detector.judge("clip.mp4")
    print(verdict.verdict, verdict.p_fake, verdict.reason)
"""

import contextlib
import hashlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfpipe.config import InferConfig, LimitsConfig
from dfpipe.errors import MediaError, ModelFileError, UsageError, choose
from dfpipe.fetching import run_fetched
from dfpipe.files import sha256_file
from dfpipe.infer.actorscorer import actor_scorer
from dfpipe.infer.aggregate import AGGREGATES, COMPRESSED, judge_clip, judge_people, segments
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.inputs import Upload
from dfpipe.infer.looking import Looked, LookJob, look_task
from dfpipe.infer.words import Conditions, cautions_of, confidence_of, reason_of
from dfpipe.preprocess.facefinder import FaceFinder, setup_of
from dfpipe.preprocess.looks import luma_of, sharpness_of
from dfpipe.sandbox import give_back_memory
from dfpipe.threads import one_thread
from dfpipe.train.openmodel import Model, open_model
from dfpipe.types import FaceCrop, Frame, FrameScore, Image, Rule, State, Verdict, VerdictKind
from dfpipe.workers import Engine, cluster_of

if TYPE_CHECKING:
    from dfpipe.infer.scorer import Scorer

MODEL_FILES = "*/model.safetensors"  # what `dfpipe train` leaves in each run folder
RUNS = Path("runs")  # where `dfpipe train` leaves them


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A verdict with the evidence beside it."""

    upload: Upload
    verdict: Verdict
    crops: tuple[FaceCrop, ...] = ()  # one for each of `verdict.scores`, in their order
    looked_at: tuple[int, ...] = ()  # indices of the frames that were decoded


class Detector:
    """A model that judges clips, stills and frames.

    Args:
        model: From `dfpipe.train.openmodel` or `dfpipe.train.modelfile`.
        config: How scores are joined.
        limits: What one input may cost.
        frames: Looked at in a clip, spread evenly, instead of what the model file says.
    """

    def __init__(
        self,
        model: Model,
        config: InferConfig | None = None,
        limits: LimitsConfig | None = None,
        frames: int | None = None,
    ) -> None:
        if frames is not None:
            faces = replace(model.card.faces, frames=frames, sampling="uniform")
            model = replace(model, card=replace(model.card, faces=faces))
        self.model = model
        self.config = config or InferConfig()
        self.limits = limits or LimitsConfig()
        choose(AGGREGATES, self.config.aggregate, "infer.aggregate")
        self._finder: FaceFinder | None = None

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device: str = "auto",
        config: InferConfig | None = None,
        limits: LimitsConfig | None = None,
        frames: int | None = None,
        later: bool = False,
    ) -> "Detector":
        """Loads a model file.

        Args:
            path: A model file or run folder; None = what `dfpipe infer` takes when none is named.
            device: "auto" (a GPU if there is one), or a name that torch knows.
            config: How scores are joined.
            limits: What one input may cost.
            frames: Looked at in a clip, instead of what the model file says.
            later: Load the network when it is needed, as `examine` does while its workers start. What is wrong with the
                weights or the device is raised then.

        Raises:
            ModelFileError: Missing or refused.
            UsageError: No such device.
        """
        file = find_model(Path(path) if path is not None else None, RUNS)
        model = open_model(file, device, shipped=file == embedded_model())
        if not later:
            model.load()
        return cls(model, config, limits, frames)

    # ---- files -------------------------------------------------------------------------------------------------------

    def judge(self, path: str | Path) -> Verdict:
        """Judges one file. One that cannot be read gets the verdict ERROR with its reason; nothing is raised for it."""
        return next(iter(self.judge_all([path], workers=1)))

    def judge_all(
        self, paths: Iterable[str | Path | Upload], engine: Engine = "local", workers: int = 0
    ) -> Iterator[Verdict]:
        """Judges files, yielding verdicts as they come, in any order. A broken file gets an ERROR; the others go on.

        Args:
            paths: Files, or entries of archives.
            engine: See `dfpipe.workers`.
            workers: Processes that read media; 0 = one per core.
        """
        uploads = (path if isinstance(path, Upload) else Upload(Path(path)) for path in paths)
        return (judged.verdict for judged in self.examine(uploads, engine, workers))

    def examine(
        self,
        uploads: Iterable[Upload | None],
        engine: Engine = "local",
        workers: int = 0,
        on_faces: Callable[[Upload], object] | None = None,
        looked: Path | None = None,
    ) -> Iterator[Judged]:
        """As `judge_all`, with the faces on which each verdict rests.

        Args:
            uploads: What to judge; a None in between means "nothing for now", see `dfpipe.workers.run_all`.
            engine: See `dfpipe.workers`.
            workers: Processes that read media; 0 = one per core.
            on_faces: Told of each input whose faces are found and are going to be scored; with `ray`, after that.
            looked: A file that grows by a byte with each frame of a clip that a worker has looked at.
        """
        setup = setup_of(self.model.card.faces, self.limits)
        where: dict[str, Any] = {"meanwhile": self._prepare}
        if (cluster := cluster_of(engine)) is not None:
            where = {"in_actor": actor_scorer(self.model, cluster.gpus_per_worker, self.config.batch_size)}
        jobs = (LookJob(upload, looked) if upload is not None else None for upload in uploads)
        for job, result in run_fetched(
            look_task, jobs, setup=setup, engine=engine, workers=workers, bounds=self.limits, **where
        ):
            if isinstance(result, MediaError):
                yield Judged(job.upload, self._error(job.upload, result))
            else:
                if on_faces is not None:
                    on_faces(job.upload)
                # More threads wait for one another where the other cores are at the next inputs: 1.31 core-seconds a
                # clip with two workers on two cores, 0.58 with one thread (measured).
                with one_thread():
                    judged = self._judged(job.upload, result)
                yield judged
            give_back_memory()  # batches of many sizes: without it 0.9 GB grow to 2.0 within 150 inputs (measured)

    # ---- frames ------------------------------------------------------------------------------------------------------

    def judge_frames(
        self, frames: Sequence[Image], times_s: Sequence[float] | None = None, name: str = "frames"
    ) -> Verdict:
        """Judges frames that the caller decoded; all of them are looked at.

        They are not isolated: decode only what you trust, or give the file to `judge`.

        Args:
            frames: At least one, RGB uint8 (H, W, 3), all of one size, in order of time; or an array (N, H, W, 3).
            times_s: When each is shown, in s, ascending; None = one in each second.
            name: What to call them in the verdict.

        Raises:
            UsageError: No frames, or none of this form.
        """
        start = time.perf_counter()
        _check_frames(frames, times_s)
        times = times_s if times_s is not None else range(len(frames))
        if self._finder is None:
            self._finder = FaceFinder(self.model.card.faces, self.limits)
        shown = [Frame(i, float(t), image) for i, (t, image) in enumerate(zip(times, frames, strict=True))]
        found = self._finder.find_in_pictures(shown)
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(image).tobytes() for image in frames)).hexdigest()
        looked = Looked(digest, sum(image.nbytes for image in frames), found, time.perf_counter() - start)
        return self._judged(Upload(Path(name)), looked).verdict

    def score(self, crops: Iterable[FaceCrop]) -> tuple[FrameScore, ...]:
        """Scores face crops that were cut with the settings in the model file.

        Returns:
            One calibrated score per crop, in their order.

        Raises:
            ResourceError: Out of memory with a single crop.
        """
        return self.scorer.score(crops)

    def _prepare(self) -> None:
        """Loads the network, which takes longer than anything else, unless it is there."""
        self.scorer  # noqa: B018

    @cached_property
    def scorer(self) -> "Scorer":
        """The network at work; it is loaded when this is first asked for.

        Raises:
            ModelFileError: Its weights are refused.
            UsageError: There is no such device.
        """
        from dfpipe.infer.scorer import Scorer

        return Scorer(self.model.network, self.model.card, self.config.batch_size)

    # ---- verdicts ----------------------------------------------------------------------------------------------------

    def _judged(self, upload: Upload, looked: Looked) -> Judged:
        start = time.perf_counter()
        card, found = self.model.card, looked.found
        cautions = cautions_of(self._conditions(looked))
        if not found.crops:
            verdict = self._answer(
                str(upload), found.state, VerdictKind.NO_FACE, found.reason, looked, cautions=cautions
            )
            return Judged(upload, verdict, (), found.looked_at)
        scores = looked.scores if looked.scores is not None else self.score(found.crops)
        # A still, or a clip of two frames, cannot show anybody in four.
        min_frames = min(self.config.min_frames, found.frames_wanted)
        people = judge_people(scores, self.config.aggregate, card.band, min_frames, _bits_per_pixel(looked))
        kind, p_fake = judge_clip(people, min_frames)
        clip = found.kind == "video"
        reason = reason_of(kind, people, scores, min_frames, clip, card.band)
        confidence, how_sure = confidence_of(kind, p_fake, card.calibration)
        verdict = self._answer(
            str(upload),
            found.state,
            kind,
            "; ".join(filter(None, [reason, found.reason])),
            p_fake=p_fake,
            people=people,
            segments=segments(scores, card.threshold) if clip else (),
            scores=scores,
            confidence=confidence,
            how_sure=how_sure,
            scoring_s=time.perf_counter() - start,
            looked=looked,
            cautions=cautions,
            rule=replace(self.rule, min_frames=min_frames),
        )
        return Judged(upload, verdict, found.crops, found.looked_at)

    def _conditions(self, looked: Looked) -> Conditions:
        """What is known of how well this input can be judged."""
        found, card = looked.found, self.model.card
        side = statistics.median(crop.box.side for crop in found.crops) if found.crops else None
        lumas = [luma_of(crop.image) for crop in found.crops]
        return Conditions(
            state=found.state,
            kind=found.kind,
            wanted=found.frames_wanted,
            with_face=found.frames_with_face,
            dropped=found.tracks_dropped,
            face_px=side,
            enlarged=card.image_size / (side * card.faces.crop_scale) if side else None,
            sharpness=statistics.median(map(sharpness_of, lumas)) if lumas else None,
            luma=statistics.median(float(luma.mean()) for luma in lumas) if lumas else None,
            bits_per_pixel=_bits_per_pixel(looked),
        )

    def _error(self, upload: Upload, error: MediaError) -> Verdict:
        """A verdict without a number. The file is named by its hash too, where it can be read at all in a short time."""
        verdict = self._answer(str(upload), error.state, VerdictKind.ERROR, str(error))
        with contextlib.suppress(MediaError, OSError):
            if not upload.member and upload.path.stat().st_size <= self.limits.file_gb * 1e9:
                verdict = replace(verdict, media_sha256=sha256_file(upload.path))
        return verdict

    def _answer(
        self,
        name: str,
        state: State,
        kind: VerdictKind,
        reason: str,
        looked: Looked | None = None,
        scoring_s: float = 0.0,
        **scored: object,
    ) -> Verdict:
        found = looked.found if looked else None
        card = self.model.card
        nothing: dict[str, object] = {"p_fake": None, "people": (), "segments": (), "scores": (), "rule": self.rule}
        return Verdict(
            path=name,
            state=state,
            verdict=kind,
            reason=reason,
            threshold=card.threshold,
            band=card.band,
            frames_wanted=found.frames_wanted if found else 0,
            frames_decoded=found.frames_decoded if found else 0,
            frames_with_face=found.frames_with_face if found else 0,
            model_name=card.name,
            model_sha256=self.model.sha256,
            media_sha256=looked.sha256 if looked else "",
            seconds=round((looked.seconds if looked else 0.0) + scoring_s, 3),
            kind=found.kind if found else "",
            media=found.info if found else None,
            media_bytes=looked.size if looked else None,
            **{**nothing, **scored},  # type: ignore[arg-type]
        )

    @property
    def rule(self) -> Rule:
        """How this detector joins scores."""
        aggregate = self.config.aggregate
        return Rule(
            aggregate,
            AGGREGATES[aggregate].parameters,
            self.config.min_frames,
            self.model.card.faces.frames,
            COMPRESSED,
        )


def _bits_per_pixel(looked: Looked) -> float | None:
    """Of a clip's file; None for pictures, and for frames that came without one."""
    return looked.found.info.bits_per_pixel(looked.size) if looked.found.kind == "video" else None


def _check_frames(frames: Sequence[Image], times_s: Sequence[float] | None) -> None:
    if len(frames) == 0:
        raise UsageError("no frames to judge")
    if times_s is not None and len(times_s) != len(frames):
        raise UsageError(f"{len(frames)} frames but {len(times_s)} times")
    shape = np.shape(frames[0])
    for image in frames:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError("frames must be RGB arrays of uint8, (height, width, 3)")
        if image.shape != shape:
            raise UsageError(
                f"frames must be of one size, not {shape[1]} x {shape[0]} and {image.shape[1]} x {image.shape[0]}"
            )


def find_model(named: Path | None, runs: Path) -> Path:
    """Which model file to use: the one that was named (a file or a run folder), else the newest under `runs`, else ours.

    Raises:
        ModelFileError: There is none.
    """
    if named is not None:
        return named / "model.safetensors" if named.is_dir() else named
    trained = sorted(runs.glob(MODEL_FILES), key=lambda path: (path.stat().st_mtime_ns, path))
    found = trained[-1] if trained else embedded_model()
    if found is None:
        raise ModelFileError(
            f"no model: none was trained under {runs}/ and this install comes without one; run 'dfpipe train', or name one "
            "with --model"
        )
    return found
