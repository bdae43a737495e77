import math

import pytest
import torch

from dfpipe.config import HeadConfig, StageConfig, TrainConfig
from dfpipe.errors import ConfigError
from dfpipe.train.cnns import CNNS
from dfpipe.train.models import FaceClassifier, create_backbone, create_model
from dfpipe.train.optim import OPTIMIZERS, SCHEDULES, Schedule, create_optimizer
from dfpipe.train.stages import Stage, blocks, learning, set_free, stages_of, to_training


@pytest.fixture
def network() -> FaceClassifier:
    return create_model(TrainConfig("resnet18", "none", head=HeadConfig(dropout=0.5), image_size=32))[0]


def free_names(network: FaceClassifier) -> set[str]:
    return {name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad}


def test_a_stage_takes_what_it_leaves_out_from_the_training() -> None:
    config = TrainConfig(
        epochs=7,
        learning_rate=0.1,
        schedule="constant",
        free="frozen",
        image_size=96,
        stages=(StageConfig(epochs=2, image_size=48, augment="light"), StageConfig("all")),
    )
    assert stages_of(config) == [
        Stage("frozen", 2, 0.1, "constant", 48, "light"),
        Stage("all", 7, 0.1, "constant", 96, "strong"),
    ]
    assert stages_of(TrainConfig()) == [Stage("all", 6, 6e-4, "one_cycle", 192, "strong")]


def test_freezing_goes_by_blocks_from_the_end(network: FaceClassifier) -> None:
    set_free(network, "frozen")
    assert free_names(network) == {"output"}
    set_free(network, "last 1")
    assert free_names(network) == {"output", "layer4"}
    assert not any(p.requires_grad for p in network.backbone.layer4[0].parameters())
    set_free(network, "last 3")
    assert free_names(network) == {"output", "layer4", "layer3"}
    set_free(network, "all")
    assert len(learning(network)) == len(list(network.parameters()))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", *CNNS])
def test_blocks_hold_every_parameter_once(name: str) -> None:
    backbone = create_backbone(name, 32)
    found = [parameter for block in blocks(backbone) for parameter in block]
    assert sorted(found) == sorted(parameter for parameter, _ in backbone.named_parameters())


def test_blocks_of_our_own_networks() -> None:
    parts = blocks(create_backbone("deepfake_detector_cnn", 32))
    assert [{name.split(".")[0] for name in part} for part in parts] == [{"conv1"}, {"conv2"}, {"dense", "norm"}]


def test_more_blocks_than_there_are(network: FaceClassifier) -> None:
    with pytest.raises(ConfigError, match="the backbone has 9 blocks"):
        set_free(network, "last 10")


@pytest.mark.parametrize("free", ["last 0", "last", "first 2", "last two", "half"])
def test_wrong_words_for_what_is_free(free: str) -> None:
    with pytest.raises(ConfigError, match="must be all, frozen, or 'last N'"):
        TrainConfig(free=free)
    with pytest.raises(ConfigError, match="must be all, frozen, or 'last N'"):
        StageConfig(free=free)


def test_frozen_batch_statistics_stay(network: FaceClassifier) -> None:
    set_free(network, "last 1")
    to_training(network)
    network(torch.rand(4, 3, 32, 32))
    assert network.backbone.bn1.num_batches_tracked == 0
    assert network.backbone.layer4[1].bn2.num_batches_tracked == 1
    assert network.head.dropout.training


def rates(schedule: str, **values: object) -> list[float]:
    """The learning rate of the first update and of the last of each of 3 epochs of 4 updates."""
    config = TrainConfig(schedule=schedule, learning_rate=0.5, **values)  # type: ignore[arg-type]
    stage = Stage("all", 3, 0.5, schedule, 32, "none")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    course = Schedule(optimizer, config, stage, 12)
    found = [course.last_rate]
    for _ in range(3):
        for _ in range(4):
            optimizer.step()
            course.after_update()
        course.after_epoch(0.7)  # never better
        found.append(course.last_rate)
    return found


def test_schedules() -> None:
    assert rates("constant") == [0.5] * 4
    cosine = [0.1 + 0.2 * (1 + math.cos(math.pi * update / 12)) for update in (0, 3, 7, 11)]
    assert rates("cosine", min_learning_rate=0.1) == pytest.approx(cosine)
    assert rates("plateau", plateau_patience=1, plateau_factor=0.2) == pytest.approx([0.5, 0.5, 0.5, 0.5])
    assert rates("plateau", plateau_patience=0, plateau_factor=0.2) == pytest.approx([0.5, 0.5, 0.5, 0.1])
    assert rates("plateau", plateau_patience=0, min_learning_rate=0.3)[-1] == pytest.approx(0.3)
    assert rates("one_cycle")[0] == pytest.approx(0.02)  # Smith's start at a 25th
    assert rates("one_cycle")[-1] == pytest.approx(0.02 / 1e4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = create_optimizer(TrainConfig(optimizer=name), Stage("all", 1, 0.1, "constant", 32, "none"), [weight])
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum() < 3


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_on_from_its_state(name: str) -> None:
    stage = Stage("all", 2, 0.5, name, 32, "none")

    def course() -> tuple[torch.optim.SGD, Schedule]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
        return optimizer, Schedule(optimizer, TrainConfig(plateau_patience=1), stage, 8)

    def forward(optimizer: torch.optim.SGD, schedule: Schedule) -> None:
        optimizer.step()
        schedule.after_update()
        schedule.after_epoch(0.1)

    optimizer, one = course()
    for _ in range(3):
        forward(optimizer, one)
    fresh, other = course()
    fresh.load_state_dict(optimizer.state_dict())
    other.load_state_dict(one.state_dict())
    for _ in range(3):
        forward(optimizer, one)
        forward(fresh, other)
        assert other.last_rate == one.last_rate
