import pytest
import torch
import torch.nn.functional as F

from dfpipe.config import HeadConfig, TrainConfig
from dfpipe.errors import ConfigError, UsageError
from dfpipe.train.cnns import CNNS
from dfpipe.train.devices import autocast, pick_device, precision_of
from dfpipe.train.models import NORMALISATIONS, FaceClassifier, Head, create_model


def built(model: str, image_size: int = 64, **values: object) -> FaceClassifier:
    return create_model(TrainConfig(model, "none", image_size=image_size, **values))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224", *CNNS])
def test_one_logit_per_crop_forward_and_backward(name: str) -> None:
    model = built(name)
    logits = model(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2,)
    assert logits.abs().max() < 3  # the last layer starts near 0
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_two_outputs_are_softmax_cross_entropy() -> None:
    head = Head(5, HeadConfig(outputs=2))
    features, labels = torch.randn(6, 5), torch.tensor([0, 1, 1, 0, 1, 0])
    ours = F.binary_cross_entropy_with_logits(head(features), labels.float())
    torch.testing.assert_close(ours, F.cross_entropy(head.output(features), labels))


def test_the_penalty_is_that_of_the_dense_layer_alone() -> None:
    head = Head(5, HeadConfig(hidden=4))
    assert head.hidden is not None
    torch.testing.assert_close(head.penalty(0.5), 0.5 * (head.hidden.weight**2).sum())
    assert Head(5, HeadConfig()).penalty(0.5) == 0


def test_the_output_layer_computes_in_float32_under_autocast() -> None:
    model = built("resnet18", head=HeadConfig(hidden=4))
    with autocast(torch.device("cpu"), torch.bfloat16):
        assert model.backbone(torch.rand(2, 3, 64, 64)).dtype == torch.bfloat16
        assert model(torch.rand(2, 3, 64, 64)).dtype == torch.float32


def test_a_mirroring_head_scores_a_crop_and_its_mirror_image_alike() -> None:
    torch.manual_seed(0)
    model = built("simple_cnn", head=HeadConfig(mirror=True)).eval()
    torch.nn.init.normal_(model.head.output.weight)
    crops = torch.rand(3, 3, 64, 64)
    mean = model(crops)
    torch.testing.assert_close(mean, model(crops.flip(-1)))
    model.mirror = False
    torch.testing.assert_close(mean, (model(crops) + model(crops.flip(-1))) / 2)
    assert (model(crops) - model(crops.flip(-1))).abs().max() > 0.01
    model.mirror = True
    dropout_free = model(crops)
    assert not torch.equal(model.train()(crops), dropout_free)  # training looks once: its augmentation mirrors


def test_normalisation() -> None:
    assert built("tf_efficientnet_lite0").mean.flatten().tolist() == [0.5] * 3
    assert built("resnet18").mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    for name, values in NORMALISATIONS.items():
        if values is not None:
            model = built("resnet18", normalise=name)
            assert (*model.mean.flatten().tolist(), *model.std.flatten().tolist()) == pytest.approx(
                values[0] + values[1]
            )


def test_grey_is_what_opencv_calls_grey() -> None:
    import cv2

    picture = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    network = CNNS["deepfake_detector_cnn"](16)
    grey = (picture.permute(2, 0, 1)[None].float() * network.luma).sum(1)[0]
    assert (grey - torch.from_numpy(cv2.cvtColor(picture.numpy(), cv2.COLOR_RGB2GRAY)).float()).abs().max() <= 0.51


def test_unknown_or_impossible_models() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        built("resnet5O")
    with pytest.raises(ConfigError, match=r"train\.normalise 'hlaf'"):
        built("resnet18", normalise="hlaf")
    with pytest.raises(ConfigError, match="10 px and more"):
        built("simple_cnn", image_size=8)


def test_devices() -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        pick_device("cuda:99")
    with pytest.raises(UsageError, match="cannot be used"):
        pick_device("quantum")
    assert pick_device("cpu").type == "cpu"


def test_precision() -> None:
    cpu = torch.device("cpu")
    assert precision_of(cpu) == torch.float32
    assert precision_of(cpu, "bf16") == torch.bfloat16
    with pytest.raises(ConfigError, match="needs a GPU"):
        precision_of(cpu, "fp16")
    with pytest.raises(ConfigError, match=r"train\.precision 'fp8'"):
        precision_of(cpu, "fp8")
