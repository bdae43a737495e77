import random
from pathlib import Path

import numpy as np
import pytest
import torch

from dfpipe.config import load_config, to_yaml
from dfpipe.errors import DataError
from dfpipe.preprocess.crops import upright_landmarks
from dfpipe.preprocess.manifest import CONFIG, Manifest, read_manifest
from dfpipe.train.dataset import CropDataset
from dfpipe.train.loader import loader
from dfpipe.train.transforms import AUGMENTATIONS, in_unit_range


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_crops_become_input(faces: Path, augment: str) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train"), 64, augment)
    drawn, label = data[(0, 1)]
    image = in_unit_range(drawn)
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert label.dtype == torch.float32
    assert label.item() == data.labels[0] or ("blend" in augment and label.item() == 1)
    assert torch.equal(drawn, data[(0, 1)][0])
    assert torch.equal(drawn, data[(0, 2)][0]) == (augment == "none")


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_drawing_leaves_the_global_random_states_alone(faces: Path, augment: str) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train"), 64, augment)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(3), np.random.random(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    data[(0, 1)]
    torch.testing.assert_close(torch.rand(3), expected[0])
    assert (np.random.random(), random.random()) == expected[1:]


def test_what_is_drawn_does_not_depend_on_loader_processes(faces: Path) -> None:
    manifest = read_manifest(faces)
    batches = []
    for workers in (0, 2):
        data = CropDataset(manifest, manifest.rows_of("train"), 48, "self_blend")
        draws = [(position, 1000 + position) for position in range(20)]
        images, labels = zip(*loader(data, draws, 8, workers, False), strict=True)
        batches.append((torch.cat(images), torch.cat(labels)))
    torch.testing.assert_close(*batches, rtol=0, atol=0)


def test_a_missing_crop_is_named(faces: Path) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, [0], 48, "none")
    data._paths = ["nowhere.jpg"]
    with pytest.raises(DataError, match=r"nowhere\.jpg"):
        data[(0, 0)]


def test_landmarks_come_in_px_of_the_crop(faces: Path) -> None:
    """The demo's portrait looks nearly straight into the camera: its landmarks lie about where those of most faces do."""
    manifest = read_manifest(faces)
    data = CropDataset(manifest, range(len(manifest)), 64, "none")
    errors = []
    for position in range(0, len(data), 5):
        sample = data.sample(position)
        assert sample.landmarks is not None
        assert sample.crop_scale == pytest.approx(manifest.columns["crop_scale"][position])
        side = sample.image.shape[0]
        errors.append((sample.landmarks - upright_landmarks((side, side), sample.crop_scale)) / side)
    assert np.abs(np.mean(errors, 0)).max() < 0.06
    assert np.std(errors, 0).max() < 0.03  # each crop is cut around its own box


def test_landmarks_are_unknown_where_the_manifest_has_none_or_faces_were_aligned(faces: Path, tmp_path: Path) -> None:
    manifest = read_manifest(faces)
    nothing = Manifest(faces, {**manifest.columns, "landmarks": [[] for _ in range(len(manifest))]})
    assert CropDataset(nothing, [0, 1], 64, "strong").sample(1).landmarks is None
    mixed = Manifest(faces, {**manifest.columns, "landmarks": [None, *manifest.columns["landmarks"][1:]]})
    data = CropDataset(mixed, [0, 1], 64, "strong")
    assert data.sample(0).landmarks is None
    assert data.sample(1).landmarks is not None
    (tmp_path / CONFIG).write_text(to_yaml(load_config("default", ["preprocess.faces.align=true"])))
    (tmp_path / "crops").symlink_to(faces / "crops")
    aligned = CropDataset(Manifest(tmp_path, manifest.columns), [0, 1], 64, "strong")
    assert aligned.sample(0).landmarks is None


def test_self_blending_changes_labels_of_real_crops_only(faces: Path) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train"), 48, "self_blend")
    drawn: dict[int, set[float]] = {0: set(), 1: set()}
    for position in range(0, len(data), 4):
        drawn[data.labels[position]] |= {data[(position, seed)][1].item() for seed in range(3)}
    assert drawn == {0: {0.0, 1.0}, 1: {1.0}}
