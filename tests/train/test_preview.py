from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfpipe.errors import DataError
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train import preview
from dfpipe.train.dataset import CropDataset
from dfpipe.train.preview import show_batch
from dfpipe.train.transforms import AUGMENTATIONS


@pytest.fixture
def data(faces: Path) -> Callable[[str, int], CropDataset]:
    manifest = read_manifest(faces)
    return lambda augment, size: CropDataset(manifest, manifest.rows_of("train"), size, augment)


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is written above the tiles, line by line."""
    seen: list[list[str]] = []
    sheet = preview._sheet

    def recording(title: str, lines: list[list[tuple[Image.Image, str, int]]]) -> Image.Image:
        seen.append([title])
        seen.extend([caption for _, caption, _ in line] for line in lines)
        return sheet(title, lines)

    monkeypatch.setattr(preview, "_sheet", recording)
    return seen


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_picture_holds_every_crop_and_its_drawings(
    data: Callable[[str, int], CropDataset], augment: str, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "batch.png"
    show_batch(data(augment, 96), out, 0, rows=3, draws=2)
    picture = Image.open(out)
    assert picture.format == "PNG"
    assert picture.size == (8 + 3 * (128 + 8), 2 * 22 + 3 * (128 + 22 + 8))
    pixels = np.asarray(picture.convert("RGB"))
    for row in range(3):
        for column in range(3):
            top, left = 2 * 22 + row * 158 + 22, 8 + column * 136
            assert pixels[top : top + 128, left : left + 128].std() > 10
            assert (pixels[top - 22 : top, left : left + 128].min(2) < 100).any()  # the caption
    again = tmp_path / "again.png"
    show_batch(data(augment, 96), again, 0, rows=3, draws=2)
    assert again.read_bytes() == out.read_bytes()


def test_real_and_fake_take_turns_and_say_what_they_became(
    data: Callable[[str, int], CropDataset], captions: list[list[str]], tmp_path: Path
) -> None:
    show_batch(data("self_blend", 64), tmp_path / "a.png", 1, rows=4, draws=6)
    title, *lines = captions
    assert "self_blend" in title[0]
    assert "64 x 64" in title[0]
    assert [line[0] for line in lines] == ["REAL, as on disk", "FAKE, as on disk"] * 2
    drawn = {line[0][:4]: set() for line in lines}
    for line in lines:
        drawn[line[0][:4]] |= set(line[1:])
    assert drawn == {"REAL": {"REAL", "FAKE (self-blended)"}, "FAKE": {"FAKE"}}


def test_where_one_label_runs_out_the_other_fills_up(faces: Path, captions: list[list[str]], tmp_path: Path) -> None:
    manifest = read_manifest(faces)
    rows = [row for row in manifest.rows_of("train") if manifest.columns["label"][row] == 1][:3]
    show_batch(CropDataset(manifest, rows, 64, "none"), tmp_path / "a.png", 0, rows=8, draws=1)
    assert [line[0] for line in captions[1:]] == ["FAKE, as on disk"] * 3


def test_an_empty_split_is_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no crop"):
        show_batch(CropDataset(read_manifest(faces), [], 64, "none"), tmp_path / "a.png", 0)
    assert not (tmp_path / "a.png").exists()
