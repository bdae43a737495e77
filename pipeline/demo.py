"""The whole job on made-up clips: no data, no network, a few minutes on two cores.

The clips show one public-domain portrait (the astronaut Eileen Collins, NASA, inside scikit-image), moving and
differently lit. In the tampered ones the face region is replaced by an altered copy of itself, blended in: the kind of
seam that face swaps leave, as in self-blended images (Shiohara and Yamasaki, CVPR 2022).
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dfpipe.config import Config, load_config
from dfpipe.files import atomic_file
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.inputs import Upload
from dfpipe.infer.judging import judge_into
from dfpipe.infer.terminal import one_line
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.manifest import read_inputs
from dfpipe.types import Image, Label

SOURCES = 20  # made-up source clips, each with a real and a tampered version: 16 to train on, 2 and 2 to try
FRAMES = 48
RATE = 24  # frames/s
SIDE = 320  # px
FACE = (224, 118)  # centre (x, y) of the face in the portrait, px
FACE_SIZE = (48, 62)  # half axes of the ellipse that is tampered with, px

Say = Callable[[str], object]


def run(out: Path, say: Say) -> Path:
    """Makes clips, extracts, trains and judges, telling what it does. Returns the model file."""
    # Not above: `dfpipe doctor` makes a clip too, and need not wait for what trains.
    from dfpipe.train.loop import train
    from dfpipe.train.validate import shown

    config = load_config("demo")
    say(f"1/5 making {2 * SOURCES} clips of one public-domain portrait, half of them tampered with, in {out / 'clips'}")
    make_clips(out / "clips")
    _judge_with_ours(out, config, say)
    say("3/5 dfpipe extract: sampling frames, finding and cutting faces")
    summary = extract([out / "clips"], [], out / "faces", config)
    say(f"    {summary.states}, {summary.crops} crops, split by source: {summary.splits}")
    say("4/5 dfpipe train: a short training")
    done = train(config, out / "faces", out / "runs", "demo")
    say(f"    validation AUC {shown(done.validation['auc'])} after epoch {done.best_epoch} in {done.seconds:.0f} s")
    say("5/5 dfpipe infer --model: clips of sources that the new model has never seen, and three odd uploads")
    truth = _held_out(out / "faces") | _odd_uploads(out)
    _judge(Detector.load(done.model, config=config.infer), truth, out / "verdicts", say)
    say(_closing(out, done.model))
    return done.model


def _judge_with_ours(out: Path, config: Config, say: Say) -> None:
    """The first thing that a new user does: judging with the model that ships."""
    ours = embedded_model()
    if ours is None:
        say("2/5 skipped: this install comes without a model")
        return
    say("2/5 dfpipe infer: two clips with the model that ships with dfpipe; it was trained on other tricks than these")
    clips = {out / "clips" / label.name.lower() / "source_00.mp4": label.name for label in Label}
    _judge(Detector.load(ours, config=config.infer), clips, out / "verdicts_shipped", say)


def _judge(detector: Detector, truth: Mapping[Path, str], out: Path, say: Say) -> None:
    lines = [told.line for told in judge_into(detector, map(Upload, truth), out)]
    for line in sorted(lines, key=lambda line: str(line["path"])):
        say(f"    {one_line(line)}   (in truth: {truth[Path(line['path'])]})")


def _closing(out: Path, model: Path) -> str:
    return f"""
These clips are made up, all of one face and one trick: this model says nothing about real media.
  clips     {out / "clips"}
  faces     {out / "faces"}
  model     {model}
  verdicts  {out / "verdicts" / "verdicts.jsonl"}, with a report beside it for each clip
Go on with your own data, in any folder:
  dfpipe extract --videos dfdc/      (or folders named real and fake, of clips or with --images of stills)
  dfpipe train
  dfpipe infer clip.mp4"""


# ---- the clips -------------------------------------------------------------------------------------------------------


def make_clips(folder: Path) -> None:
    """Writes real/ and fake/ clips of every source; clips that are there already are kept."""
    for source in range(SOURCES):
        for label in Label:
            path = folder / label.name.lower() / f"source_{source:02d}.mp4"
            if not path.is_file():
                write_clip(path, clip_frames(source, label))


def clip_frames(source: int, label: Label) -> Iterator[Image]:
    """The frames of one made-up clip: (SIDE, SIDE, 3) uint8 RGB. Same numbers, same frames.

    A source is one way of moving and lighting the portrait; its real and fake clip differ in the face region alone.
    """
    from skimage.data import astronaut

    portrait = np.asarray(astronaut())
    if label is Label.FAKE:
        portrait = tampered(portrait, np.random.default_rng([source, 1]))
    rng = np.random.default_rng([source, 0])
    gain = rng.uniform(0.7, 1.15, 3) * rng.uniform(0.8, 1.1)
    gamma = rng.uniform(0.8, 1.3)
    zoom, sway, tilt = rng.uniform(1.1, 1.6), rng.uniform(5, 18), rng.uniform(2, 8)
    phase, flip = rng.uniform(0, 6.28, 3), rng.random() < 0.5
    for i in range(FRAMES):
        t = 2 * np.pi * i / FRAMES
        centre = (FACE[0] + sway * np.sin(t + phase[0]), FACE[1] + 25 + sway * np.cos(t + phase[1]))
        turn = cv2.getRotationMatrix2D(centre, float(tilt * np.sin(t + phase[2])), float(zoom))
        view = cv2.warpAffine(
            portrait,
            _moved(turn, SIDE / 2 - centre[0], SIDE / 2 - centre[1]),
            (SIDE, SIDE),
            borderMode=cv2.BORDER_REFLECT,
        )
        lit = 255 * (view / 255) ** gamma * gain + rng.normal(0, 2, view.shape)
        frame = lit.clip(0, 255).astype(np.uint8)
        yield np.ascontiguousarray(frame[:, ::-1]) if flip else frame


def tampered(portrait: Image, rng: np.random.Generator) -> Image:
    """The portrait with an altered copy of its face blended in: other colour, sharpness, size and place."""
    tint = 1 + rng.choice([-1, 1], 3) * rng.uniform(0.05, 0.14, 3)
    blurred = cv2.GaussianBlur(portrait, (0, 0), float(rng.uniform(0.7, 1.5)))
    turn = cv2.getRotationMatrix2D(FACE, float(rng.uniform(-4, 4)), float(rng.uniform(0.94, 1.08)))
    shift = rng.uniform(-4, 4, 2)
    height, width = portrait.shape[:2]
    other = cv2.warpAffine(
        (blurred * tint).clip(0, 255).astype(np.uint8), _moved(turn, shift[0], shift[1]), (width, height)
    )
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, FACE, FACE_SIZE, 0, 0, 360, 1.0, -1)
    soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(2, 5))))[:, :, None]
    mixed = portrait * (1 - soft) + other * soft
    return mixed.clip(0, 255).astype(np.uint8)


def _moved(turn: Any, dx: float, dy: float) -> Any:
    """An affine 2 x 3 matrix with a further shift."""
    return turn + np.array([[0, 0, dx], [0, 0, dy]])


def write_clip(path: Path, frames: Iterator[Image]) -> None:
    """Encodes frames as an MP4: H.264 where this PyAV has an encoder for it, else MPEG-4."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = container.add_stream(
            codec, rate=Fraction(RATE), options={"qp": "22"} if codec == "libx264" else {}
        )
        stream.pix_fmt = "yuv420p"
        # With more threads, or with crf, x264 makes of the same frames another file each time (measured).
        stream.codec_context.thread_count = 1
        for i, image in enumerate(frames):
            if i == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _held_out(faces: Path) -> dict[Path, str]:
    """Clips of the test split, with what they are."""
    return {Path(r["path"]): Label(r["label"]).name for r in read_inputs(faces) if r["split"] == "test"}


def _odd_uploads(out: Path) -> dict[Path, str]:
    """What uploads are really like: two people of whom one is fake, no face at all, a file that is no clip."""
    folder = out / "uploads"
    two, none, broken = (folder / name for name in ("two people.mp4", "no face.mp4", "broken.mp4"))
    pairs = zip(clip_frames(SOURCES, Label.REAL), clip_frames(SOURCES, Label.FAKE), strict=True)
    write_clip(two, (np.hstack(pair) for pair in pairs))
    ramp = np.arange(SIDE, dtype=np.uint8)
    write_clip(none, (np.tile((ramp + 4 * i)[None, :, None], (SIDE, 1, 3)) for i in range(FRAMES)))
    broken.write_bytes(two.read_bytes()[:2000])
    return {two: "FAKE, the right one", none: "no face", broken: "cut off"}
