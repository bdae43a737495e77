"""The room's verb: a model file and media to verdicts.

Untrusted bytes are parsed in killable child processes, which find and cut the faces exactly as extraction does, with the
settings in the model file. The network scores the crops here, on the GPU if there is one.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dfpipe.config import InferConfig, LimitsConfig
from dfpipe.errors import MediaError, ModelFileError, choose
from dfpipe.files import sha256_file
from dfpipe.infer.aggregate import AGGREGATES, judge_clip, judge_people, segments
from dfpipe.infer.calibration import probabilities
from dfpipe.preprocess.facefinder import FoundFaces, setup_of, this_finder
from dfpipe.train.devices import autocast, pick_device
from dfpipe.train.modelfile import LoadedModel, load_model
from dfpipe.train.transforms import resized
from dfpipe.types import FaceCrop, FrameScore, State, Verdict, VerdictKind
from dfpipe.workers import Bounds, run_all

MODEL_FILES = "*/model.safetensors"  # what `dfpipe train` leaves in each run folder


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What a worker sends back of one input."""

    sha256: str
    found: FoundFaces
    seconds: float


def look_task(path: Path) -> Looked:
    """Finds and cuts the faces of one input, in a worker.

    Raises:
        MediaError: The input's state and reason.
    """
    start = time.perf_counter()
    found = this_finder().find(path)
    return Looked(sha256_file(path), found, time.perf_counter() - start)


class Detector:
    """A model that judges clips and stills.

    Args:
        model: From `dfpipe.train.modelfile.load_model`.
        config: How scores are joined.
        limits: What one input may cost.
    """

    def __init__(
        self, model: LoadedModel, config: InferConfig | None = None, limits: LimitsConfig | None = None
    ) -> None:
        self.model = model
        self.config = config or InferConfig()
        self.limits = limits or LimitsConfig()
        choose(AGGREGATES, self.config.aggregate, "infer.aggregate")
        self._device = model.network.mean.device

    @classmethod
    def load(
        cls, path: Path, device: str = "auto", config: InferConfig | None = None, limits: LimitsConfig | None = None
    ) -> "Detector":
        """Loads a model file.

        Raises:
            ModelFileError: Missing or refused.
            UsageError: No such device.
        """
        return cls(load_model(path, pick_device(device)), config, limits)

    def judge(self, path: Path) -> Verdict:
        """Judges one file."""
        return next(iter(self.judge_all([path], workers=1)))

    def judge_all(self, paths: Iterable[Path], engine: str = "local", workers: int = 0) -> Iterator[Verdict]:
        """Judges files, yielding verdicts as they come, in any order. A broken file gets an ERROR; the others go on.

        Args:
            paths: Files.
            engine: See `dfpipe.workers`.
            workers: Processes that read media; 0 = one per core.
        """
        bounds = Bounds(self.limits.seconds, self.limits.memory_gb)
        setup = setup_of(self.model.card.faces, self.limits)
        for path, result in run_all(look_task, paths, setup=setup, engine=engine, workers=workers, bounds=bounds):
            if isinstance(result, MediaError):
                yield self._error(path, result)
            else:
                yield self._verdict(path, result)

    @torch.inference_mode()
    def score(self, crops: Iterable[FaceCrop]) -> tuple[FrameScore, ...]:
        """Scores face crops that were cut with the settings in the model file.

        Returns:
            One score per crop, in their order.
        """
        crops = list(crops)
        scores: list[float] = []
        for start in range(0, len(crops), self.config.batch_size):
            batch = np.stack([crop.image for crop in crops[start : start + self.config.batch_size]])
            images = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
            with autocast(self._device):
                logits = self.model.network(resized(images, self.model.card.image_size))
            scores += probabilities(logits.double().cpu().numpy(), self.model.card.calibration).tolist()
        return tuple(FrameScore(c.frame_index, c.time_s, c.track, p) for c, p in zip(crops, scores, strict=True))

    def _verdict(self, path: Path, looked: Looked) -> Verdict:
        start = time.perf_counter()
        card, found = self.model.card, looked.found
        if not found.crops:
            return self._answer(path, found.state, VerdictKind.NO_FACE, found.reason, looked=looked)
        scores = self.score(found.crops)
        # A still, or a clip of two frames, cannot show anybody in four.
        min_frames = min(self.config.min_frames, found.frames_wanted)
        people = judge_people(scores, self.config.aggregate, card.band, min_frames)
        kind, p_fake, reason = judge_clip(people, min_frames)
        return self._answer(
            path,
            found.state,
            kind,
            "; ".join(filter(None, [reason, found.reason])),
            looked=looked,
            p_fake=p_fake,
            people=people,
            segments=segments(scores, card.threshold) if found.kind == "video" else (),
            scores=scores,
            scoring_s=time.perf_counter() - start,
        )

    def _error(self, path: Path, error: MediaError) -> Verdict:
        return self._answer(path, error.state, VerdictKind.ERROR, str(error))

    def _answer(
        self,
        path: Path,
        state: State,
        kind: VerdictKind,
        reason: str,
        looked: Looked | None = None,
        scoring_s: float = 0.0,
        **scored: object,
    ) -> Verdict:
        found = looked.found if looked else None
        card = self.model.card
        fields: dict[str, object] = {"p_fake": None, "people": (), "segments": (), "scores": (), **scored}
        return Verdict(
            path=str(path),
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
            **fields,  # type: ignore[arg-type]
        )


def find_model(named: Path | None, runs: Path) -> Path:
    """Which model file to use: the one that was named (a file or a run folder), else the newest under `runs`.

    Raises:
        ModelFileError: There is none.
    """
    if named is not None:
        return named / "model.safetensors" if named.is_dir() else named
    trained = sorted(runs.glob(MODEL_FILES), key=lambda path: (path.stat().st_mtime_ns, path))
    if not trained:
        raise ModelFileError(f"no model: none was trained under {runs}/; run 'dfpipe train', or name one with --model")
    return trained[-1]
