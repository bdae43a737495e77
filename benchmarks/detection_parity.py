"""Do we find the faces that facenet-pytorch's own MTCNN finds at full resolution?

    python benchmarks/detection_parity.py FOLDER [--frames 8]

For every clip below FOLDER: of the frames in which the reference finds a face of confidence at least 0.95 and of at least
60 px, the share in which ours has a box with an IoU of at least 0.6; how many of our faces the reference does not have at
all; and the time both took on the same frames, in one process, one thread for ours, all for the reference.
"""

import argparse
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path

import facenet_pytorch
import torch

from dfpipe.config import FacesConfig
from dfpipe.errors import MediaError
from dfpipe.preprocess.boxes import iou
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.faces import FaceDetector, find_faces, load_detector
from dfpipe.preprocess.readers import BATCH, open_video
from dfpipe.preprocess.sampling import uniform
from dfpipe.types import FaceBox, Image

SURE, LARGE, SAME, APART = 0.95, 60.0, 0.6, 0.3


@dataclass
class Tally:
    """What was found in some clips."""

    frames: int = 0
    reference: int = 0  # sure and large faces of the reference
    hit: int = 0  # of these, ours has too
    frames_with: int = 0  # frames with a sure and large face of the reference
    frames_hit: int = 0  # of these, ours has all such faces
    ours: int = 0
    extra: int = 0  # ours, where the reference has nothing at all
    seconds: dict[str, float] = field(default_factory=lambda: {"ours": 0.0, "reference": 0.0})

    def add(self, other: "Tally") -> None:
        """Sums up."""
        for name in ("frames", "reference", "hit", "frames_with", "frames_hit", "ours", "extra"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds


def reference_faces(reference: facenet_pytorch.MTCNN, image: Image) -> list[FaceBox]:
    """All faces of the reference, at full resolution; it raises on pictures below its smallest face."""
    if min(image.shape[:2]) < FacesConfig().min_face:
        return []
    boxes, confidences = reference.detect(image)
    if boxes is None:
        return []
    return [FaceBox(*map(float, box), float(p)) for box, p in zip(boxes, confidences, strict=True)]


def compare(path: Path, frames: int, detector: FaceDetector, reference: facenet_pytorch.MTCNN) -> Tally:
    """Both detectors on the same frames of one clip."""
    config = FacesConfig()
    tally = Tally()
    with open_video(path) as video:
        images = [frame.image for frame in video.frames(uniform(len(video.timeline.times), frames))]
    began = time.perf_counter()
    ours = [
        faces for i in range(0, len(images), BATCH) for faces in find_faces(detector, images[i : i + BATCH], config)
    ]
    tally.seconds["ours"] = time.perf_counter() - began
    began = time.perf_counter()
    theirs = [reference_faces(reference, image) for image in images]
    tally.seconds["reference"] = time.perf_counter() - began
    for mine, all_theirs in zip(ours, theirs, strict=True):
        sure = [face for face in all_theirs if face.confidence >= SURE and face.side >= LARGE]
        hits = sum(any(iou(face, box) >= SAME for box in mine) for face in sure)
        tally.frames += 1
        tally.reference += len(sure)
        tally.hit += hits
        tally.frames_with += bool(sure)
        tally.frames_hit += bool(sure) and hits == len(sure)
        tally.ours += len(mine)
        tally.extra += sum(all(iou(box, face) < APART for face in all_theirs) for box in mine)
    return tally


def main() -> None:
    """Prints a line per clip and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    detector, reference = load_detector(FacesConfig()), facenet_pytorch.MTCNN(keep_all=True)
    total = Tally()
    for path in sorted(p for p in args.folder.rglob("*") if p.is_file()):
        try:
            if media_kind(path) != "video":
                continue
            tally = compare(path, args.frames, detector, reference)
        except MediaError:
            continue
        total.add(tally)
        if tally.hit < tally.reference or tally.extra:
            print(
                f"{path.name}: {tally.hit} of {tally.reference} faces of the reference, {tally.extra} extra", flush=True
            )
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{total.frames} frames, {total.frames_with} with a sure and large face of the reference")
    print(f"faces found:  {total.hit} of {total.reference} ({total.hit / max(total.reference, 1):.2%})")
    print(
        f"frames whole: {total.frames_hit} of {total.frames_with} ({total.frames_hit / max(total.frames_with, 1):.2%})"
    )
    print(f"our faces that the reference does not have: {total.extra} of {total.ours}")
    print(f"time: ours {total.seconds['ours']:.1f} s, reference {total.seconds['reference']:.1f} s in the same run")


if __name__ == "__main__":
    main()
