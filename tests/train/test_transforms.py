"""One contract for every augmentation set."""

import numpy as np
import pytest
import torch

from dfpipe.preprocess.crops import upright_landmarks
from dfpipe.train.transforms import AUGMENTATIONS, Sample, resized
from dfpipe.types import Label


def sample(label: int = Label.REAL, shape: tuple[int, int] = (80, 80), known: bool = False) -> Sample:
    coarse = torch.randint(20, 236, (1, 3, 10, 10), generator=torch.Generator().manual_seed(0)).float()
    image = torch.nn.functional.interpolate(coarse, shape, mode="bilinear")[0].to(torch.uint8)
    return Sample(image, label, upright_landmarks(shape, 1.3) if known else None, 1.3)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
class TestContract:
    @pytest.mark.parametrize("size", [32, 96])
    @pytest.mark.parametrize("known", [False, True])
    def test_a_crop_becomes_input(self, augment: str, size: int, known: bool) -> None:
        draw = AUGMENTATIONS[augment](size)
        for seed in range(8):
            torch.manual_seed(seed)
            image, label = draw(sample(known=known))
            assert image.shape == (3, size, size)
            assert image.dtype == torch.float32
            assert 0 <= image.min() < image.max() <= 1
            assert isinstance(label, float)

    def test_the_sample_stays_as_it_was(self, augment: str) -> None:
        crop = sample(known=True)
        for seed in range(8):
            torch.manual_seed(seed)
            AUGMENTATIONS[augment](32)(crop)
        assert torch.equal(crop.image, sample().image)
        np.testing.assert_array_equal(crop.landmarks, sample(known=True).landmarks)

    def test_the_seed_of_torch_decides_everything(self, augment: str) -> None:
        draw = AUGMENTATIONS[augment](64)
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            np.random.seed(len(drawn))
            drawn.append(draw(sample())[0])
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2]) == (augment == "none")

    def test_fakes_stay_fake(self, augment: str) -> None:
        draw = AUGMENTATIONS[augment](32)
        assert {draw(sample(Label.FAKE))[1] for _ in range(10)} == {1.0}

    def test_only_self_blending_makes_fakes(self, augment: str) -> None:
        torch.manual_seed(0)
        draw = AUGMENTATIONS[augment](32)
        assert {draw(sample())[1] for _ in range(30)} == ({0.0, 1.0} if "blend" in augment else {0.0})

    @pytest.mark.parametrize("shape", [(20, 20), (1, 50), (50, 1), (1, 1), (19, 31)])
    def test_odd_pictures_raise_nothing(self, augment: str, shape: tuple[int, int]) -> None:
        grey = Sample(torch.full((3, *shape), 128, dtype=torch.uint8), Label.REAL, None, 0.8)
        draw = AUGMENTATIONS[augment](48)
        for crop in (grey, sample(shape=shape)):
            for seed in range(8):
                torch.manual_seed(seed)
                image, _ = draw(crop)
                assert image.shape == (3, 48, 48)
                assert torch.isfinite(image).all()


def test_none_is_what_inference_does() -> None:
    crop = sample()
    assert torch.equal(AUGMENTATIONS["none"](56)(crop)[0], resized(crop.image, 56))


def test_resizing_batches_and_single_crops_alike() -> None:
    images = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8)
    torch.testing.assert_close(resized(images, 96)[2], resized(images[2], 96))


def test_light_keeps_most_of_the_picture_upright() -> None:
    """A bright lower half stays the lower half; mirrored about every second time."""
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    image[0, 60:], image[1, :, :50] = 250, 250
    draw = AUGMENTATIONS["light"](64)
    mirrored = 0
    for seed in range(60):
        torch.manual_seed(seed)
        drawn, _ = draw(Sample(image, Label.REAL, None, 1.3))
        assert drawn[0, 55:, 20:44].mean() > 0.9
        assert drawn[0, :20, 20:44].mean() < 0.05
        mirrored += bool(drawn[1, 32, 50:60].mean() > 0.5)
    assert 18 <= mirrored <= 42


@pytest.mark.parametrize("degrees", [-10.0, 10.0])
def test_rotation_is_that_of_torchvision(degrees: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.transforms import InterpolationMode, v2

    from dfpipe.train import transforms

    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(degrees))
    crop = sample()
    ours = torch.from_numpy(transforms._rotated(transforms._array(crop)).transpose(2, 0, 1).copy())
    theirs = v2.functional.rotate(crop.image, degrees, InterpolationMode.BILINEAR)
    assert (ours.float() - theirs.float())[:, 12:-12, 12:-12].abs().max() <= 3
