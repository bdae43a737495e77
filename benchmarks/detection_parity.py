"""Do we find the faces that facenet-pytorch's own MTCNN finds at full resolution?

    python benchmarks/detection_parity.py FOLDER [--frames 8]

For every clip below FOLDER, as an extraction works on it (32 frames), in `--frames` of these: of the faces that the
reference finds with a confidence of at least 0.95 and of at least 60 px, the share in which ours has a box with an IoU of
at least 0.6; the same for a confidence of at least 0.7, the least that it reports; how many of our faces the reference
does not have at all.
"""

import argparse
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import facenet_pytorch
import torch

from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.errors import MediaError
from dfpipe.preprocess.boxes import iou
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.facefinder import FaceFinder
from dfpipe.preprocess.readers import open_video
from dfpipe.preprocess.sampling import uniform
from dfpipe.types import FaceBox, Image

SURE, LARGE, SAME, APART = 0.95, 60.0, 0.6, 0.3


@dataclass
class Tally:
    """What was found in some clips."""

    frames: int = 0
    reference: int = 0  # large faces of the reference
    hit: int = 0  # of these, ours has too
    sure: int = 0  # sure and large faces of the reference
    sure_hit: int = 0
    ours: int = 0
    extra: int = 0  # ours, where the reference has nothing at all

    def add(self, other: "Tally") -> None:
        """Sums up."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


def reference_faces(reference: facenet_pytorch.MTCNN, image: Image) -> list[FaceBox]:
    """All faces of the reference, at full resolution; it raises on pictures below its smallest face."""
    if min(image.shape[:2]) < FacesConfig().min_face:
        return []
    boxes, confidences = reference.detect(image)
    if boxes is None:
        return []
    return [FaceBox(*map(float, box), float(p)) for box, p in zip(boxes, confidences, strict=True)]


def compare(path: Path, frames: int, finder: FaceFinder, reference: facenet_pytorch.MTCNN) -> Tally:
    """Both on the same frames of one clip."""
    found = finder.find(path)
    places = [found.looked_at[i] for i in uniform(len(found.looked_at), frames)]
    tally = Tally()
    with open_video(path) as video:
        for frame in video.frames(places):
            mine = [crop.box for crop in found.crops if crop.frame_index == frame.index]
            theirs = reference_faces(reference, frame.image)
            large = [face for face in theirs if face.side >= LARGE]
            hits = [any(iou(face, box) >= SAME for box in mine) for face in large]
            sure = [face.confidence >= SURE for face in large]
            tally.frames += 1
            tally.reference += len(large)
            tally.hit += sum(hits)
            tally.sure += sum(sure)
            tally.sure_hit += sum(hit and known for hit, known in zip(hits, sure, strict=True))
            tally.ours += len(mine)
            tally.extra += sum(all(iou(box, face) < APART for face in theirs) for box in mine)
    return tally


def main() -> None:
    """Prints a line per clip and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    finder, reference = FaceFinder(FacesConfig(), LimitsConfig()), facenet_pytorch.MTCNN(keep_all=True)
    total = Tally()
    for path in sorted(p for p in args.folder.rglob("*") if p.is_file()):
        try:
            if media_kind(path) != "video":
                continue
            tally = compare(path, args.frames, finder, reference)
        except MediaError:
            continue
        total.add(tally)
        if tally.sure_hit < tally.sure or tally.extra:
            print(f"{path.name}: {tally.sure_hit} of {tally.sure} sure faces, {tally.extra} extra", flush=True)
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{total.frames} frames")
    for told, hit, count in (("sure", total.sure_hit, total.sure), ("all", total.hit, total.reference)):
        print(f"{told} large faces of the reference that we have: {hit} of {count} ({hit / max(count, 1):.2%})")
    print(f"our faces that the reference does not have: {total.extra} of {total.ours}")


if __name__ == "__main__":
    main()
