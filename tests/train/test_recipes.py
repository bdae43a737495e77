"""Every recipe: builds, has the stated size and head, goes forward and backward, learns, trains, saves, loads."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dfpipe.config import Config, HeadConfig, StageConfig, TrainConfig, about, load_config, recipes
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.card import ModelCard
from dfpipe.train.fit import LAST
from dfpipe.train.loop import train
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.models import create_model
from dfpipe.train.optim import create_optimizer
from dfpipe.train.stages import learning, set_free, stages_of, to_training

# Parameters without the head. For the published backbones: their papers' or torchvision's counts less the 1,000 classes.
RESNET50, EFFICIENTNET_B0, XCEPTION = 25_557_032 - 2_049_000, 5_288_548 - 1_281_000, 22_855_952 - 2_049_000
EXPECTED = {  # recipe -> parameters before the head, head, input in px, phases
    "default": (4_652_008 - 1_281_000, HeadConfig(), 192, 1),
    "default_model": (4_652_008 - 1_281_000, HeadConfig(), 160, 2),
    "default_model_192": (4_652_008 - 1_281_000, HeadConfig(mirror=True), 192, 1),
    "demo": (4_652_008 - 1_281_000, HeadConfig(), 112, 1),
    "deepfake_detector_cnn": (31_509_377 - 129, HeadConfig(dropout=0.5), 256, 1),
    "simple_cnn": (896 + 18_496 + 64 * 30 * 30 * 128 + 128, HeadConfig(), 128, 1),
    "xception_frozen": (XCEPTION, HeadConfig(dropout=0.3), 128, 1),
    "resnet50_frozen": (RESNET50, HeadConfig(dropout=0.3), 128, 1),
    "resnet50_two_phase": (RESNET50, HeadConfig(128, 0.5, 0.001), 256, 2),
    "efficientnet_b0_two_phase": (EFFICIENTNET_B0, HeadConfig(128, 0.5, 0.001), 256, 2),
    "resnet50_end_to_end": (RESNET50, HeadConfig(128, 0.6, 0.002), 256, 1),
    "resnet50_ce": (RESNET50, HeadConfig(outputs=2), 224, 1),
    "efficientnet_b0_ce": (EFFICIENTNET_B0, HeadConfig(outputs=2), 224, 1),
    "kfold_vgg16": (138_357_544 - 4_097_000, HeadConfig(), 224, 1),
    "kfold_resnet50": (RESNET50, HeadConfig(), 224, 1),
    "kfold_resnet50_plus_layer": (RESNET50, HeadConfig(512), 224, 1),
    "kfold_densenet121": (7_978_856 - 1_025_000, HeadConfig(), 224, 1),
    "kfold_inception_v3": (23_834_568 - 2_049_000, HeadConfig(), 299, 1),
    "kfold_mobilenet": (4_231_976 - 1_025_000, HeadConfig(), 224, 1),
    "kfold_vit": (86_567_656 - 769_000, HeadConfig(), 224, 1),
    "mobilenet_v2": (3_504_872 - 1_281_000, HeadConfig(), 160, 1),
}
TRAINED_AT = {"kfold_inception_v3": 96}  # px instead of 64: Inception cannot take less than 75
# Who goes through a whole run in the place of large networks, whose files are gigabytes. That they themselves learn where
# they should is seen by one step of their own.
TWINS = {"vgg16": "resnet18", "resnet50": "resnet18", "vit_base_patch16_224": "vit_tiny_patch16_224"}


def quick(name: str) -> Config:
    """A recipe cut down to two steps a phase, from random weights."""
    config = load_config(name, ["train.pretrained=none", "train.loader_workers=0", "train.early_stop=0"])
    stages = tuple(replace(stage, epochs=1, image_size=0) for stage in config.train.stages) or (StageConfig(epochs=1),)
    size, model = TRAINED_AT.get(name, 64), TWINS.get(config.train.model, config.train.model)
    return config.with_train(
        model=model, stages=stages, batch_size=2, accumulate=1, samples_per_epoch=4, image_size=size
    )


def test_every_recipe_is_expected() -> None:
    assert set(EXPECTED) == set(recipes())


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_size_head_one_step_and_file(name: str, tmp_path: Path) -> None:
    whole = load_config(name, ["train.pretrained=none"])
    config = whole.train
    stage = stages_of(config)[-1]
    parameters, head, size, phases = EXPECTED[name]
    network, _ = create_model(config)
    assert sum(p.numel() for p in network.backbone.parameters()) == parameters
    assert (config.head, config.image_size, len(stages_of(config))) == (head, size, phases)

    set_free(network, stage.free)
    to_training(network)
    free = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    images = torch.rand(2, 3, size, size)
    logits = network(images)
    assert logits.shape == (2,)
    logits.sum().backward()
    for parameter in network.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
    create_optimizer(config, replace(stage, learning_rate=0.01), learning(network)).step()
    check_changed(before, network.state_dict(), free, stage.free)
    del before

    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (network.mean, network.std))
    card = ModelCard(name, config.model, size, mean, std, whole.preprocess.faces, config.head)
    save_model(tmp_path / "m.safetensors", network, card)
    with torch.inference_mode():
        loaded = load_model(tmp_path / "m.safetensors").network
        torch.testing.assert_close(loaded(images), network.eval()(images), rtol=0, atol=0)
    shutil.rmtree(tmp_path)  # VGG-16 alone is half a gigabyte


def test_the_stated_number_of_parameters_and_flattened_values() -> None:
    network, _ = create_model(load_config("deepfake_detector_cnn").train)
    assert sum(p.numel() for p in network.parameters()) == 31_509_377
    assert network.backbone.dense.in_features == 246_016


def check_changed(before: dict[str, Tensor], after: dict[str, Tensor], free: set[str], stage: str) -> None:
    """What is free has changed, and of the rest only the statistics of batches that are not frozen."""
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    assert "head.output.weight" in changed
    assert changed - free <= {key for key in before if "running_" in key or "num_batches" in key}
    if stage == "frozen":
        assert changed <= {"head.output.weight", "head.output.bias", "head.hidden.weight", "head.hidden.bias"}
    else:
        assert any(key.startswith("backbone.") for key in changed & free)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_two_steps_change_what_is_free_and_nothing_else(name: str, faces: Path, tmp_path: Path) -> None:
    config = quick(name)
    torch.manual_seed(config.seed)
    network, _ = create_model(config.train)
    set_free(network, stages_of(config.train)[-1].free)
    free = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
    manifest = read_manifest(faces)
    rows = {split: manifest.rows_of(split)[::4] for split in ("train", "validation")}
    done = train(config, faces, tmp_path, name, "cpu", rows=rows)
    check_changed(network.state_dict(), load_file(done.model.parent / LAST), free, stages_of(config.train)[-1].free)
    assert done.validation["log_loss"] is not None
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_says_where_it_comes_from(name: str) -> None:
    text = " ".join(about(name))
    assert len(about(name)[0]) <= 125
    if name not in ("default", "demo"):
        assert "Where it comes from" in text
    if name not in ("default", "demo", "mobilenet_v2", "default_model", "default_model_192"):
        assert "Reported there" in text
        assert load_config(name).train != TrainConfig()
