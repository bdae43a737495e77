"""Small sound files of every kind that dfpipe reads, made here: what the fuzzer damages."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import schedule
import torch
from PIL import Image as PillowImage

from dfpipe.config import Config, FacesConfig, HeadConfig, to_yaml
from dfpipe.preprocess.manifest import CROPS_SCHEMA, INPUTS_SCHEMA, write_table
from dfpipe.train.card import ModelCard
from dfpipe.train.modelfile import save_model
from dfpipe.train.models import FaceClassifier
from dfpipe.types import Image

FRAMES = 6
SIDE = 96  # px; the smallest at which the detector still finds the face


@dataclass(frozen=True)
class Seed:
    """A sound file."""

    name: str
    form: str  # what `mutate.mutate` must know of it
    data: bytes


# container, codec, pixels, form, options of the container. Encoders that this PyAV lacks are left out.
_CLIPS: tuple[tuple[str, str, str, str, Mapping[str, str]], ...] = (
    ("mp4", "libx264", "yuv420p", "mp4", {}),
    ("mp4", "libx264", "yuv444p", "mp4", {"movflags": "faststart"}),
    ("mp4", "libx264", "yuv420p", "mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ("mp4", "libx265", "yuv420p", "mp4", {}),
    ("mp4", "mpeg4", "yuv420p", "mp4", {}),
    ("mp4", "libsvtav1", "yuv420p", "mp4", {}),
    ("mov", "prores_ks", "yuv422p10le", "mp4", {}),
    ("webm", "libvpx-vp9", "yuv420p", "ebml", {}),
    ("webm", "libvpx", "yuv420p", "ebml", {}),
    ("matroska", "ffv1", "yuv420p", "ebml", {}),
    ("matroska", "libx264", "yuv420p", "ebml", {}),
    ("avi", "mjpeg", "yuvj420p", "riff", {}),
    ("avi", "mpeg4", "yuv420p", "riff", {}),
    ("avi", "rawvideo", "yuv420p", "riff", {}),
    ("avi", "huffyuv", "yuv422p", "riff", {}),
    ("mpegts", "libx264", "yuv420p", "packets", {}),
    ("mpegts", "mpeg2video", "yuv420p", "packets", {}),
    ("mpeg", "mpeg1video", "yuv420p", "program", {}),
    ("mpeg", "mpeg2video", "yuv420p", "program", {}),
    ("flv", "flv", "yuv420p", "flv", {}),
    ("asf", "wmv2", "yuv420p", "asf", {}),
    ("gif", "gif", "rgb8", "gif", {}),
)
_SILENT = {"libx265": {"x265-params": "log-level=none"}}
os.environ.setdefault("SVT_LOG", "0")  # libsvtav1 asks the environment how much to say
_ROW: dict[str, Any] = {
    "media_id": "m",
    "dataset": "d",
    "name": "a.mp4",
    "label": 1,
    "method": "swap",
    "group": "g",
    "split": "train",
    "kind": "video",
    "fold": 0,
}
_CROP: dict[str, Any] = {"crop": "crops/m/m/0.jpg", "frame_index": 3, "time_s": 0.1, "track": 0, "crop_scale": 1.3} | {
    **dict.fromkeys(("x1", "y1"), 10.0),
    **dict.fromkeys(("x2", "y2"), 60.0),
    "confidence": 0.99,
    "landmarks": [1.0] * 10,
    "as_is": False,
}
_INPUT: dict[str, Any] = {
    "path": "a.mp4",
    "sha256": "ab",
    "state": "ok",
    "reason": "",
    "frames_wanted": 32,
    "crops": 1,
} | {
    **dict.fromkeys(("width", "height"), 320),
    "fps": 25.0,
    "codec": "h264",
    "reader": "decord",
}
RECORDS = [("a.mp4", "FAKE", "b.mp4"), ("b.mp4", "REAL", None), ("c.mp4", "FAKE", "b.mp4")]


@cache
def face() -> Image:
    """A face that the detector finds, (SIDE, SIDE, 3)."""
    from skimage.data import astronaut

    portrait = PillowImage.fromarray(np.asarray(astronaut())).crop((134, 20, 314, 200))
    return np.asarray(portrait.resize((SIDE, SIDE)))


def clips() -> Iterator[Seed]:
    """Clips of every container and codec in common use."""
    for container, codec, pixels, form, options in _CLIPS:
        if codec in av.codecs_available:
            yield Seed(f"{container}_{codec}", form, _clip(container, codec, pixels, options))


def _clip(container: str, codec: str, pixels: str, options: Mapping[str, str]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "clip")
        with schedule.kept(), av.open(str(path), "w", format=container, options=dict(options)) as out:
            stream: Any = out.add_stream(codec, rate=25, options=_SILENT.get(codec, {}))
            stream.width = stream.height = SIDE
            stream.pix_fmt = pixels
            stream.codec_context.thread_count = 1
            for i in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.roll(face(), 2 * i, axis=1), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path.read_bytes()


def stills() -> Iterator[Seed]:
    """Pictures in every format and way of packing that is common."""
    picture = PillowImage.fromarray(face())
    exif = picture.getexif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    grey16 = PillowImage.fromarray(face()[..., 0].astype(np.uint16) << 8)
    palette = picture.quantize(16)
    later = [PillowImage.fromarray(np.roll(face(), 4, axis=1))]
    made: tuple[tuple[str, str, PillowImage.Image, str, dict[str, Any]], ...] = (
        ("jpeg", "jpeg", picture, "JPEG", {"exif": exif}),
        ("jpeg_progressive", "jpeg", picture, "JPEG", {"progressive": True, "icc_profile": b"\0" * 200}),
        ("jpeg_cmyk", "jpeg", picture.convert("CMYK"), "JPEG", {}),
        ("png", "png", picture, "PNG", {}),
        ("png_palette", "png", palette, "PNG", {"transparency": 0}),
        ("png_16", "png", grey16, "PNG", {}),
        ("png_animated", "png", picture, "PNG", {"save_all": True, "append_images": later}),
        ("webp", "riff", picture, "WEBP", {}),
        ("webp_lossless", "riff", picture.convert("RGBA"), "WEBP", {"lossless": True, "exif": exif}),
        ("webp_animated", "riff", picture, "WEBP", {"save_all": True, "append_images": later}),
        ("bmp", "bmp", picture, "BMP", {}),
        ("bmp_palette", "bmp", palette, "BMP", {}),
        ("tiff", "tiff", picture, "TIFF", {}),
        ("tiff_lzw", "tiff", picture, "TIFF", {"compression": "tiff_lzw"}),
        ("tiff_jpeg", "tiff", picture, "TIFF", {"compression": "jpeg"}),
        (
            "tiff_pages",
            "tiff",
            grey16,
            "TIFF",
            {"compression": "tiff_deflate", "save_all": True, "append_images": [grey16]},
        ),
    )
    for name, form, image, kind, options in made:
        file = io.BytesIO()
        image.save(file, kind, **options)
        yield Seed(name, form, file.getvalue())


def archives() -> Iterator[Seed]:
    """Zip archives of stills and clips, packed in several ways."""
    still = next(seed.data for seed in stills())
    clip = _clip("mp4", "mpeg4", "yuv420p", {})
    table = "image,original,label\nreal/a.jpg,a.mp4,real\n"
    for name, method in (
        ("stored", zipfile.ZIP_STORED),
        ("deflated", zipfile.ZIP_DEFLATED),
        ("lzma", zipfile.ZIP_LZMA),
    ):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for entry, data in (("real/a.jpg", still), ("fake/b.jpg", still), ("fake/c.mp4", clip)):
                info = zipfile.ZipInfo(entry)
                info.compress_type = method
                with archive.open(info, "w", force_zip64=name == "lzma") as out:
                    out.write(data)
            archive.writestr(zipfile.ZipInfo("metadata.csv"), table)
            archive.writestr(zipfile.ZipInfo("real/no_suffix"), still)
        yield Seed(f"zip_{name}", "zip", file.getvalue())


def manifests() -> Iterator[Seed]:
    """The table of crops of an extraction."""
    rows = [{**_ROW, **_CROP, "frame_index": i, "crop": f"crops/m/m/{i}.jpg"} for i in range(3)]
    yield Seed("manifest", "parquet", _table(CROPS_SCHEMA, rows))


def inputs_tables() -> Iterator[Seed]:
    """The table of inputs of an extraction."""
    yield Seed("inputs", "parquet", _table(INPUTS_SCHEMA, [{**_ROW, **_INPUT}, {**_ROW, "state": "corrupt"}]))


def parquet_lists() -> Iterator[Seed]:
    """A user's own list, as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    columns = {"path": ["a.mp4", "b.mp4", "sub/c.mp4"], "label": ["real", "fake", "1"], "group": ["x", "y", None]}
    pq.write_table(pa.table(columns), file)
    yield Seed("list_parquet", "parquet", file.getvalue())


def _table(schema: Any, rows: list[dict[str, Any]]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "table.parquet")
        write_table(path, schema, rows)
        return path.read_bytes()


def settings() -> Iterator[Seed]:
    """All settings of a run, as YAML."""
    yield Seed("config", "yaml", to_yaml(Config()).encode())


def models() -> Iterator[Seed]:
    """A model file with a network of our own, and one that timm knows."""
    torch.manual_seed(0)
    for architecture, side in (("simple_cnn", 12), ("test_efficientnet", 32)):
        network = FaceClassifier(architecture, side, (0.5,) * 3, (0.5,) * 3, HeadConfig()).eval()
        card = ModelCard("m", architecture, side, (0.5,) * 3, (0.5,) * 3, FacesConfig())
        with TemporaryDirectory() as folder:
            path = Path(folder, "m.safetensors")
            save_model(path, network, card)
            yield Seed(f"model_{architecture}", "safetensors", path.read_bytes())


# ---- the lists of publishers and users ------------------------------------------------------------------------------


def _text(name: str, form: str, text: str) -> Callable[[], Iterator[Seed]]:
    def seeds() -> Iterator[Seed]:
        yield Seed(name, form, text.encode())

    return seeds


csv_lists = _text(
    "list_csv",
    "text",
    "path,label,group,split,method,dataset\na.mp4,real,g,train,,d\nb.mp4,FAKE,h,val,swap,d\nsub/c.mp4,1,,test,,\n",
)
dfdc_lists = _text(
    "metadata_json", "json", json.dumps({f: {"label": w, "split": "train", "original": o} for f, w, o in RECORDS})
)
preview_lists = _text(
    "dataset_json",
    "json",
    json.dumps({f"method_A/1/{f}": {"label": w.lower(), "set": "train", "augmentations": []} for f, w, _ in RECORDS}),
)
label_lists = _text("labels_csv", "text", "filename,label\na.mp4,1\nb.mp4,0\nc.mp4,1\n")
pair_lists = _text("train_json", "json", json.dumps([["000", "001"], ["001", "000"], ["002", "003"]]))
still_tables = _text("metadata_csv", "text", "image,original,label\nreal/a.png,x.mp4,real\nfake/b.png,x.mp4,fake\n")
celeb_lists = _text("celeb_txt", "text", "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n")
path_lists = _text("at_list", "text", "# a list\na.mp4\nb.mp4\n\nsub/c.mp4\n")
bench_lists = _text(
    "bench_json",
    "json",
    json.dumps(
        {
            "Set": {
                label: {
                    split: {
                        "c23": {
                            f"{label}_{split}": {
                                "label": label,
                                "frames": [f"frames\\{label}\\{i}.png" for i in range(3)],
                            }
                        }
                    }
                    for split in ("train", "val", "test")
                }
                for label in ("Set_Real", "Set_Fake")
            }
        }
    ),
)
