"""Is this install sound? Every check does the real thing in small."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dfpipe.errors import DfpipeError
from dfpipe.floors import FFMPEG, below, holes_in, installed_versions
from dfpipe.preprocess.ffmpeg import ffmpeg_version

MIN_PYTHON = (3, 11)
# The portrait's face as facenet-pytorch 2.5.3's own MTCNN finds it: x1 y1 x2 y2 in px.
KNOWN_FACE = (181.1, 62.2, 267.7, 172.1)
CLASHES = (
    ("decord", "decord2"),
    ("opencv-python", "opencv-python-headless"),
)  # pairs that overwrite each other's files

Say = Callable[[str], object]


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    passed: bool
    detail: str


def examine(say: Say) -> Iterator[Check]:
    """Runs all checks, says and yields each. Those that only inform always pass."""
    for name, check in CHECKS.items():
        try:
            result = Check(name, True, check())
        except Exception as error:  # whatever is broken here must be told, not raised
            result = Check(name, False, _why(error))
        _tell(result, say)
        yield result


def _why(error: Exception) -> str:
    """In our words where a check says no, with its kind where something breaks."""
    return str(error) if isinstance(error, RuntimeError | DfpipeError) else f"{type(error).__name__}: {error}"


def _tell(check: Check, say: Say) -> None:
    say(f"{'ok  ' if check.passed else 'FAIL'} {check.name:<18} {check.detail}")


def _python() -> str:
    if sys.version_info < MIN_PYTHON:
        raise RuntimeError(f"Python {platform.python_version()}: install {'.'.join(map(str, MIN_PYTHON))} or newer")
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _torch() -> str:
    import torch
    import torchvision

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # fails where the two do not belong together
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}"


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "none found: everything runs on the CPU"


def _decoders() -> str:
    """Every wheel brings an FFmpeg of its own, and none is newer than its wheel."""
    inside = {package: ffmpeg_version(package) for package in ("av", "decord2", "opencv-python-headless")}
    for package, floor in FFMPEG.items():
        if below(inside[package], floor):
            raise RuntimeError(
                f"{package} {metadata.version(package)} carries FFmpeg {inside[package]}, which has {floor.holes}: "
                f"install a newer {package}, with FFmpeg {floor.version} or later inside"
            )
    return ", ".join(f"{name} {metadata.version(name)} (FFmpeg {version})" for name, version in inside.items())


def _known_holes() -> str:
    installed = installed_versions()
    holes = holes_in(installed)
    if holes:
        raise RuntimeError("; ".join(holes))
    return ", ".join(f"{name} {version}" for name, version in installed.items())


def _packages() -> str:
    for pair in CLASHES:
        if all(_installed(name) for name in pair):
            raise RuntimeError(f"{' and '.join(pair)} are both installed: pip uninstall both, then install {pair[1]}")
    return "no two packages overwrite each other"


def _folder() -> str:
    with tempfile.NamedTemporaryFile(dir=os.curdir, prefix=".tmp-doctor-"):
        return f"{Path.cwd()} can be written"


def _detector() -> str:
    from skimage.data import astronaut

    from dfpipe.config import FacesConfig
    from dfpipe.preprocess.boxes import iou
    from dfpipe.preprocess.faces import find_faces, load_detector
    from dfpipe.types import FaceBox

    config = FacesConfig()
    faces = find_faces(load_detector(config), [astronaut()], config)[0]
    overlap = iou(faces[0], FaceBox(*KNOWN_FACE, 1.0)) if faces else 0.0
    if overlap < 0.8:
        raise RuntimeError(f"the known face in scikit-image's portrait was not found where it is ({len(faces)} faces)")
    return f"finds the known face (overlap {overlap:.2f})"


def _worker() -> str:
    """A clip is made, read by every reader, and its face found in a child process: the first half of the main job."""
    import numpy as np

    from dfpipe.config import FacesConfig, LimitsConfig
    from dfpipe.demo import clip_frames, write_clip
    from dfpipe.preprocess.readers import open_video
    from dfpipe.types import Label

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made up.mp4"
        write_clip(path, clip_frames(0, Label.REAL))
        frames = {}
        for reader in ("decord", "pyav"):
            with open_video(path, reader) as video:
                frames[reader] = next(iter(video.frames([20]))).image.astype(int)
        if np.abs(frames["decord"] - frames["pyav"]).mean() > 2:
            raise RuntimeError("decord and PyAV decode the same clip differently")
        return _find_in_worker(path, FacesConfig(frames=8), LimitsConfig())


def _find_in_worker(path: Path, faces: object, limits: object) -> str:
    from dfpipe.infer.inputs import Upload
    from dfpipe.infer.looking import LookJob, look_task
    from dfpipe.preprocess.facefinder import setup_of
    from dfpipe.workers import run_all

    job = LookJob(Upload(path))
    ((_, result),) = run_all(look_task, [job], setup=setup_of(faces, limits), workers=1)  # type: ignore[arg-type]
    if isinstance(result, Exception):
        raise result
    return f"a child process found a face in {result.found.frames_with_face} of 8 frames of a made clip"


def _training() -> str:
    from dfpipe.config import TrainConfig
    from dfpipe.train.models import create_model

    _, origin = create_model(TrainConfig())
    return f"{TrainConfig().model} starts from {origin}"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "torch": _torch,
    "gpu": _gpu,
    "decoders": _decoders,
    "known holes": _known_holes,
    "packages": _packages,
    "current folder": _folder,
    "face detector": _detector,
    "training": _training,
    "clip in a worker": _worker,
}


# ---- the whole way, with the model that ships ------------------------------------------------------------------------

SELFTEST = "selftest"  # key in ModelCard.metrics: what the model says of the two made clips
# Of p_fake. Encoders of other versions change pixels a little, a wrong install much: with red and blue exchanged the two
# scores move by 0.50 and 0.14, measured.
TOLERANCE = 0.1


def selftest(say: Say) -> Check:
    """Judges two made clips with the model that ships, and compares with what it said when it was made."""
    try:
        result = Check("self-test", True, _selftest())
    except Exception as error:  # as in `examine`
        result = Check("self-test", False, _why(error))
    _tell(result, say)
    return result


def _selftest() -> str:
    from dfpipe.infer.embedded import embedded_model
    from dfpipe.train.card import read_card

    model = embedded_model()
    if model is None:
        raise RuntimeError("this install comes without a model: install dfpipe from its wheel")
    expected = read_card(model, shipped=True).metrics.get(SELFTEST)
    if not expected:
        raise RuntimeError("the model that ships does not say what it should answer: install dfpipe from its wheel")
    found = selftest_answers(model)
    far = {name: (p, expected[name]) for name, p in found.items() if abs(p - expected[name]) > TOLERANCE}
    if far:
        told = ", ".join(f"{name} {p:.3f} instead of {right:.3f}" for name, (p, right) in far.items())
        raise RuntimeError(f"the model that ships answers otherwise here than where it was made: {told}")
    return "the model that ships answers as where it was made: " + ", ".join(
        f"{name} {p:.3f} ({expected[name]:.3f})" for name, p in found.items()
    )


def selftest_answers(model: Path) -> dict[str, float]:
    """What a model says of a made clip and its tampered twin: their scores by name.

    Raises:
        RuntimeError: A clip is not judged at all.
    """
    from dfpipe.demo import clip_frames, write_clip
    from dfpipe.infer.detector import Detector
    from dfpipe.types import Label

    detector, found = Detector.load(model, "cpu"), {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {label.name.lower(): Path(folder, f"{label.name}.mp4") for label in Label}
        for label in Label:
            write_clip(paths[label.name.lower()], clip_frames(0, label))
        verdicts = {v.path: v for v in detector.judge_all(paths.values(), workers=1)}
    for name, path in paths.items():
        p_fake = verdicts[str(path)].p_fake
        if p_fake is None:
            raise RuntimeError(f"the {name} clip is not judged: {verdicts[str(path)].reason}")
        found[name] = round(p_fake, 4)
    return found


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
