"""Look at extracted crops: which ones, how bright and sharp they are, their perceptual hash, and small copies of them."""

import base64
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from dfpipe.preprocess.cropfiles import crop_bytes, located
from dfpipe.preprocess.crops import encode_jpeg, resize, squared
from dfpipe.types import Image

if TYPE_CHECKING:
    from dfpipe.preprocess.manifest import Manifest

T = TypeVar("T")

SIDE = 256  # px: crops of another size are scaled to it, because sharpness depends on the size
THUMB = 96  # px: a face is still recognised, and sixty of them weigh some 200 kB
THUMB_QUALITY = 80  # of JPEG
_SHEET_COLUMNS = 10


class Fault(StrEnum):
    """Why a crop that the manifest names could not be looked at."""

    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured on one crop."""

    brightness: float  # mean luma (Rec. 601), 0..255
    sharpness: float  # variance of the Laplacian of the luma at SIDE px (Pech-Pacheco et al., ICPR 2000)
    code: int  # perceptual hash, 64 bits


# ---- which crops ---------------------------------------------------------------------------------------------------


def spread_over(things: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spaced; 0 = all."""
    if not most or len(things) <= most:
        return list(things)
    return [things[i * len(things) // most] for i in range(most)]


def by_label(manifest: "Manifest") -> dict[int | None, list[int]]:
    """Row numbers per label, sorted by crop: its path starts with a hash, which mixes sources in an order that stays."""
    rows: dict[int | None, list[int]] = defaultdict(list)
    for row in sorted(range(len(manifest)), key=lambda row: str(manifest.columns["crop"][row])):
        rows[manifest.columns["label"][row]].append(row)
    return dict(rows)


def sample_rows(manifest: "Manifest", most: int) -> list[int]:
    """Row numbers of at most `most` crops, as many of each label as there are; 0 = all."""
    labels = by_label(manifest)
    share = max(1, most // len(labels)) if most and labels else 0
    return [row for rows in labels.values() for row in spread_over(rows, share)]


def sheet_rows(manifest: "Manifest", rows: Sequence[int], most: int) -> list[int]:
    """Row numbers for a contact sheet: as many sources as possible, and of each as many crops as fit.

    Args:
        manifest: Of the crops.
        rows: To choose from.
        most: Crops on the sheet, from 1.
    """
    sources: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in rows:
        sources[tuple(str(manifest.columns[key][row]) for key in ("dataset", "method", "group"))].append(row)
    chosen = spread_over(sorted(sources), most)
    share = -(-most // len(chosen)) if chosen else 0
    picks = [spread_over(sources[source], share) for source in chosen]
    turns = [pick[turn] for turn in range(share) for pick in picks if turn < len(pick)]
    return turns[:most]


def rows_to_compare(manifest: "Manifest") -> list[int]:
    """Row numbers for the search for duplicates: every crop of a still, and of a clip the middle one of its first person."""
    columns = manifest.columns
    rows, clips = [], defaultdict(list)
    for row in range(len(manifest)):
        if columns["kind"][row] == "image":
            rows.append(row)
        else:
            clips[columns["media_id"][row]].append(row)
    for members in clips.values():
        members.sort(key=lambda row: (columns["track"][row] or 0, columns["frame_index"][row] or 0))
        person = [row for row in members if columns["track"][row] == columns["track"][members[0]]]
        rows.append(person[len(person) // 2])
    return sorted(rows)


# ---- looking -------------------------------------------------------------------------------------------------------


def absent(manifest: "Manifest") -> list[int]:
    """Row numbers of crops that are not there."""
    return [row for row in range(len(manifest)) if not _is_there(manifest.path(row))]


def _is_there(path: Path) -> bool:
    return os.path.isfile(located(str(path))[0])  # unlike Path.is_file, False also where a folder may not be entered


def look_at(manifest: "Manifest", rows: Iterable[int], workers: int = 0) -> dict[int, Look | Fault]:
    """Measures crops, each once.

    Args:
        manifest: Of the crops.
        rows: Row numbers; repetitions do not matter.
        workers: Threads, 0 = one per core.
    """
    wanted = sorted(set(rows))
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        results = pool.map(look, (manifest.path(row) for row in wanted))
        bar = tqdm(results, total=len(wanted), desc="explore", unit="crop", disable=None)
        return dict(zip(wanted, bar, strict=True))


def look(path: Path) -> Look | Fault:
    """Measures one crop."""
    picture = read_crop(path)
    if isinstance(picture, Fault):
        return picture
    luma = luma_of(picture)
    return Look(float(luma.mean()), sharpness_of(luma), perceptual_hash(luma))


def luma_of(picture: Image) -> Any:
    """The luma of a square RGB picture at `SIDE` px: uint8 (SIDE, SIDE)."""
    return np.asarray(cv2.cvtColor(resize(picture, SIDE) if picture.shape[0] != SIDE else picture, cv2.COLOR_RGB2GRAY))


def sharpness_of(luma: Any) -> float:
    """The variance of the Laplacian, see `Look.sharpness`."""
    return float(cv2.Laplacian(luma, cv2.CV_64F).var())


def perceptual_hash(luma: Any) -> int:
    """The 64-bit pHash of a picture, uint8 (H, W): signs of its lowest frequencies against their median."""
    import imagehash
    from PIL import Image as PillowImage

    bits = imagehash.phash(PillowImage.fromarray(luma)).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes())


def read_crop(path: Path) -> Image | Fault:
    """Reads a crop as a square RGB picture. OpenCV gets bytes, not the path: it refuses names that are not UTF-8."""
    if not _is_there(path):
        return Fault.MISSING
    try:
        picture = cv2.imdecode(np.frombuffer(crop_bytes(str(path)), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # unreadable; empty or larger than OpenCV's limit
        return Fault.DAMAGED
    if picture is None:
        return Fault.DAMAGED
    return squared(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))


# ---- small copies --------------------------------------------------------------------------------------------------


def thumbs(manifest: "Manifest", rows: Iterable[int]) -> dict[int, Image]:
    """Small copies, RGB (THUMB, THUMB, 3), of those crops that can be read."""
    pictures = ((row, read_crop(manifest.path(row))) for row in rows)
    return {row: resize(picture, THUMB) for row, picture in pictures if not isinstance(picture, Fault)}


def sheet(pictures: Mapping[int, Image]) -> bytes:
    """A contact sheet of at least one small copy, as PNG: rows of ten from the left, white where none is left."""
    tiles = list(pictures.values())
    columns = min(_SHEET_COLUMNS, len(tiles))
    blank = np.full((THUMB, THUMB, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % columns)
    lines = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    _, data = cv2.imencode(".png", cv2.cvtColor(np.vstack(lines), cv2.COLOR_RGB2BGR))
    return bytes(data.tobytes())


def jpeg_uri(picture: Image) -> str:
    """A small copy as it stands in the page."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, THUMB_QUALITY)).decode()


def png_uri(data: bytes) -> str:
    """A chart as it stands in the page."""
    return "data:image/png;base64," + base64.b64encode(data).decode()
