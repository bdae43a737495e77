import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.config import FacesConfig, HeadConfig, TrainConfig
from dfpipe.errors import ModelFileError
from dfpipe.train.averaging import average
from dfpipe.train.card import ModelCard, read_card
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.models import FaceClassifier, create_model
from dfpipe.train.start import origin_of

CARD = ModelCard(
    "run",
    "resnet18",
    64,
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    FacesConfig(),
    threshold=0.45,
    calibration={"method": "temperature", "temperature": 2.0},
    metrics={"validation": {"auc": 0.9}},
    data={"split_fingerprint": "f", "initial_weights": "ImageNet"},
)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "epoch_1.safetensors", tmp_path / "epoch_2.safetensors"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save_model(path, create_model(TrainConfig("resnet18", "none", image_size=64))[0], CARD)
    return paths


def test_every_weight_is_the_mean(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    average(two, out)
    one, other, mean = (load_model(path).network.state_dict() for path in (*two, out))
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (one[name] + other[name]) / 2)


def test_what_held_for_the_single_files_is_not_said_of_the_mean(two: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["model", "average", *map(str, two), "--out", str(tmp_path / "mean.safetensors")])
    assert done.exit_code == 0, done.output
    card = read_card(tmp_path / "mean.safetensors")
    assert (card.threshold, card.band, card.calibration, card.metrics) == (0.5, (0.4, 0.6), None, {})
    assert card.data == {**CARD.data, "averaged": ["run/epoch_1", "run/epoch_2"]}


@pytest.mark.parametrize(
    ("change", "word"), [({"image_size": 96}, "image_size"), ({"data": {"split_fingerprint": "g"}}, "data")]
)
def test_files_that_do_not_belong_together(
    two: list[Path], tmp_path: Path, change: dict[str, object], word: str
) -> None:
    save_model(two[0], load_model(two[0]).network, dataclasses.replace(CARD, **change))  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match=f"differ in {word}"):
        average(two, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


def test_one_file_has_no_mean(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="at least two"):
        average(two[:1], tmp_path / "mean.safetensors")


def test_a_start_and_what_was_fine_tuned_from_it(two: list[Path], tmp_path: Path) -> None:
    start, tuned = load_model(two[0]), load_model(two[1])
    data = {"split_fingerprint": "g", "initial_weights": origin_of(start), "trained_on": [{}, {}]}
    card = dataclasses.replace(CARD, image_size=96, head=HeadConfig(mirror=True), data=data)
    save_model(two[1], tuned.network, card)
    average(two, tmp_path / "mean.safetensors")
    mean = load_model(tmp_path / "mean.safetensors")
    assert (mean.card.image_size, mean.card.head.mirror, mean.card.data["trained_on"]) == (96, True, [{}, {}])
    assert isinstance(mean.network, FaceClassifier)
    assert mean.network.mirror
    with pytest.raises(
        ModelFileError, match="differ in image_size, head, data"
    ):  # the start is named first, or not at all
        average(two[::-1], tmp_path / "other.safetensors")
    wider = create_model(TrainConfig("resnet18", "none", head=HeadConfig(hidden=8), image_size=96))[0]
    save_model(two[1], wider, dataclasses.replace(card, head=HeadConfig(hidden=8)))
    with pytest.raises(ModelFileError, match="differ in weights"):
        average(two, tmp_path / "other.safetensors")
