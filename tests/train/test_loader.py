from pathlib import Path

import numpy as np
import pytest
import torch

from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.balance import kinds_of
from dfpipe.train.dataset import CropDataset
from dfpipe.train.loader import EpochSampler, loader
from dfpipe.train.world import World

KINDS = kinds_of([0, 1] * 50, list(range(100)), ["d"] * 100)


def draws(at_most: int, batch: int, world: World | None = None, skip: int = 0) -> list[tuple[int, int]]:
    sampler = EpochSampler(KINDS, "none", 7, at_most, batch, world)
    sampler.epoch, sampler.skip = 2, skip
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_reading_leaves_the_global_random_state_alone(faces: Path) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train")[:4], 32, "none")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(loader(data, [(0, 0), (1, 0)], 2, 0, False))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("total", [96, 100, 97])
def test_several_processes_see_together_what_one_sees_with_a_larger_batch(size: int, total: int) -> None:
    batch = 4
    alone = draws(total, batch * size)
    parts = [draws(total, batch, World(rank, size)) for rank in range(size)]
    assert len({len(part) for part in parts}) == 1
    for start in range(0, len(parts[0]), batch):
        step = [draw for part in parts for draw in part[start : start + batch]]
        expected = alone[start * size : (start + batch) * size]
        assert sorted(step) == sorted(expected[: len(step)])
        assert len(expected) - len(step) < size or len(parts[0][start : start + batch]) == 0


@pytest.mark.parametrize("skip", [1, 3])
def test_an_epoch_that_begins_in_its_middle_shows_the_rest(skip: int) -> None:
    assert draws(0, 8, skip=skip) == draws(0, 8)[skip * 8 :]


def test_no_batch_of_one_crop() -> None:
    assert len(draws(33, 8)) == 32
    assert len(draws(34, 8)) == 34
    assert len(draws(1, 8)) == 1


def test_epochs_have_draws_of_their_own() -> None:
    sampler = EpochSampler(KINDS, "none", 7, 0, 8)
    first = list(sampler)
    sampler.epoch = 1
    assert not np.array_equal(np.array(first), np.array(list(sampler)))


@pytest.mark.parametrize(("augment", "kind"), [("none", torch.float32), ("light", torch.uint8)])
def test_batches_lie_in_memory_as_convolutions_take_them(faces: Path, augment: str, kind: torch.dtype) -> None:
    manifest = read_manifest(faces)
    data = CropDataset(manifest, manifest.rows_of("train")[:4], 32, augment)
    ((images, labels),) = loader(data, [(0, 5), (1, 6), (2, 7)], 3, 0, False)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (images.dtype, labels.dtype) == (kind, torch.float32)
    assert all(torch.equal(image, data[(i, 5 + i)][0]) for i, image in enumerate(images))
