from pathlib import Path

import pytest
import torch

from dfpipe.errors import DataError
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.dataset import CropDataset
from dfpipe.train.loader import EpochSampler, loader
from dfpipe.train.transforms import AUGMENTATIONS, resized


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_crops_become_input(faces: Path, augment: str) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train"), 64, augment)
    image, label = data[(0, 1)]
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert label.item() in (0.0, 1.0)
    torch.testing.assert_close(image, data[(0, 1)][0])
    assert torch.equal(image, data[(0, 2)][0]) == (augment == "none")


def test_drawing_leaves_the_global_random_state_alone(faces: Path) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train"), 64, "light")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    data[(0, 1)]
    torch.testing.assert_close(torch.rand(3), expected)


def test_what_is_drawn_does_not_depend_on_loader_processes(faces: Path) -> None:
    manifest = read_manifest(faces)
    batches = []
    for workers in (0, 2):
        data = CropDataset(manifest, manifest.rows_of("train"), 48, "light")
        sampler = EpochSampler(data.labels, "label", 0, at_most=20)
        batches.append(torch.cat([images for images, _ in loader(data, sampler, 8, workers, False)]))
    torch.testing.assert_close(*batches)


def test_a_missing_crop_is_named(faces: Path) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, [0], 48, "none")
    data._paths = ["nowhere.jpg"]
    with pytest.raises(DataError, match=r"nowhere\.jpg"):
        data[(0, 0)]


def test_resizing_batches_and_single_crops_alike() -> None:
    images = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8)
    torch.testing.assert_close(resized(images, 96)[2], resized(images[2], 96))
