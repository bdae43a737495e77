"""One contract for every augmentation set."""

import numpy as np
import pytest
import torch

from dfpipe.preprocess.crops import upright_landmarks
from dfpipe.train.transforms import AUGMENTATIONS, Sample, in_unit_range, resized
from dfpipe.types import Label


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(label: int = Label.REAL, shape: tuple[int, int] = (80, 80), known: bool = False) -> Sample:
    coarse = torch.randint(20, 236, (1, 3, 10, 10), generator=seeded(0)).float()
    smooth = torch.nn.functional.interpolate(coarse, shape, mode="bilinear")[0].to(torch.uint8)
    image = np.ascontiguousarray(smooth.permute(1, 2, 0).numpy())
    return Sample(image, label, upright_landmarks(shape, 1.3) if known else None, 1.3)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
class TestContract:
    @pytest.mark.parametrize("size", [32, 96])
    @pytest.mark.parametrize("known", [False, True])
    def test_a_crop_becomes_input(self, augment: str, size: int, known: bool) -> None:
        draw = AUGMENTATIONS[augment](size)
        for seed in range(8):
            drawn, label = draw(sample(known=known), seeded(seed))
            image = in_unit_range(drawn)
            assert image.shape == (3, size, size)
            assert drawn.dtype == (torch.float32 if augment == "none" else torch.uint8)
            assert image.dtype == torch.float32
            assert 0 <= image.min() < image.max() <= 1
            assert isinstance(label, float)

    def test_the_sample_stays_as_it_was(self, augment: str) -> None:
        crop = sample(known=True)
        for seed in range(8):
            AUGMENTATIONS[augment](32)(crop, seeded(seed))
        np.testing.assert_array_equal(crop.image, sample().image)
        np.testing.assert_array_equal(crop.landmarks, sample(known=True).landmarks)

    def test_the_generator_decides_everything(self, augment: str) -> None:
        draw = AUGMENTATIONS[augment](64)
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(len(drawn))
            np.random.seed(len(drawn))
            drawn.append(draw(sample(), seeded(seed))[0])
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2]) == (augment == "none")

    def test_fakes_stay_fake(self, augment: str) -> None:
        draw = AUGMENTATIONS[augment](32)
        assert {draw(sample(Label.FAKE), seeded(seed))[1] for seed in range(10)} == {1.0}

    def test_only_self_blending_makes_fakes(self, augment: str) -> None:
        draw = AUGMENTATIONS[augment](32)
        assert {draw(sample(), seeded(seed))[1] for seed in range(30)} == ({0.0, 1.0} if "blend" in augment else {0.0})

    @pytest.mark.parametrize("shape", [(20, 20), (1, 50), (50, 1), (1, 1), (19, 31)])
    def test_odd_pictures_raise_nothing(self, augment: str, shape: tuple[int, int]) -> None:
        grey = Sample(np.full((*shape, 3), 128, np.uint8), Label.REAL, None, 0.8)
        draw = AUGMENTATIONS[augment](48)
        for crop in (grey, sample(shape=shape)):
            for seed in range(8):
                image, _ = draw(crop, seeded(seed))
                assert image.shape == (3, 48, 48)
                assert torch.isfinite(image).all()


def test_none_is_what_inference_does() -> None:
    crop = sample()
    image = torch.from_numpy(crop.image).permute(2, 0, 1)
    assert torch.equal(AUGMENTATIONS["none"](56)(crop, seeded(0))[0], resized(image, 56))


def test_resizing_batches_and_single_crops_alike_in_any_order_in_memory() -> None:
    images = torch.randint(0, 256, (2, 2, 3, 256, 256), dtype=torch.uint8)
    apart = images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert torch.equal(resized(images, 96)[1, 0], resized(images[1, 0], 96))
    assert torch.equal(resized(images, 96), resized(apart, 96))


def test_resizing_is_that_of_torchvision() -> None:
    from torchvision.transforms import v2

    images = torch.randint(0, 256, (3, 3, 90, 70), dtype=torch.uint8)
    before = images.clone()
    assert torch.equal(resized(images, 56), v2.functional.resize(images.float() / 255, [56, 56], antialias=True))
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(256, 256), (20, 20), (1, 50), (50, 1), (30, 33)])
def test_mirror_and_window_are_drawn_as_torchvision_draws_them(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.transforms import InterpolationMode, v2

    from dfpipe.train import transforms

    monkeypatch.setattr(transforms, "_rotated", lambda image, chance: image)
    theirs = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomResizedCrop(
                48, transforms.CROP_AREA, transforms.CROP_RATIO, InterpolationMode.BILINEAR, antialias=True
            ),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    image = sample(shape=shape).image
    for seed in range(20):
        torch.manual_seed(seed)
        expected = theirs(torch.from_numpy(image).permute(2, 0, 1).contiguous())
        assert torch.equal(in_unit_range(transforms._placed(image, 48, seeded(seed))), expected)


def test_light_keeps_most_of_the_picture_upright() -> None:
    """A bright lower half stays the lower half; mirrored about every second time."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[60:, :, 0], image[:, :50, 1] = 250, 250
    draw = AUGMENTATIONS["light"](64)
    mirrored = 0
    for seed in range(60):
        drawn = in_unit_range(draw(Sample(image, Label.REAL, None, 1.3), seeded(seed))[0])
        assert drawn[0, 55:, 20:44].mean() > 0.9
        assert drawn[0, :20, 20:44].mean() < 0.05
        mirrored += bool(drawn[1, 32, 50:60].mean() > 0.5)
    assert 18 <= mirrored <= 42


@pytest.mark.parametrize("degrees", [-10.0, 10.0])
def test_rotation_is_that_of_torchvision(degrees: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.transforms import InterpolationMode, v2

    from dfpipe.train import transforms

    monkeypatch.setattr(transforms, "_uniform", lambda low, high, chance: degrees)
    crop = sample()
    ours = torch.from_numpy(transforms._rotated(crop.image, seeded(0))).permute(2, 0, 1)
    theirs = v2.functional.rotate(torch.from_numpy(crop.image).permute(2, 0, 1), degrees, InterpolationMode.BILINEAR)
    assert (ours.float() - theirs.float())[:, 12:-12, 12:-12].abs().max() <= 3
