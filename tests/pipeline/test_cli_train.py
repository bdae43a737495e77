"""`dfpipe recipes` and the flags of `dfpipe train`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dfpipe import cli
from dfpipe.config import recipes

QUICK = [
    "train.model=simple_cnn",
    "train.pretrained=none",
    "train.image_size=32",
    "train.epochs=2",
    "train.early_stop=0",
]
SETS = [word for value in QUICK for word in ("--set", value)]


@pytest.fixture
def run(elsewhere: Path) -> Callable[..., Result]:
    """Runs dfpipe in an empty folder."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(cli.main, [str(word) for word in words])

    return call


def test_recipes_are_listed_and_shown(run: Callable[..., Result]) -> None:
    listed = run("recipes")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == recipes()
    assert set(json.loads(run("recipes", "--json").stdout)) == set(recipes())
    shown = run("recipes", "resnet50_two_phase").stdout
    assert "Reported there: accuracy 0.705" in shown
    assert "free: last 1" in shown
    assert json.loads(run("recipes", "kfold_vit", "--json").stdout)["train"]["image_size"] == 224
    wrong = run("recipes", "resnet50_to_phase")
    assert wrong.exit_code == 2
    assert "did you mean 'resnet50_two_phase'" in wrong.output


def test_epochs_that_are_to_be_kept(run: Callable[..., Result], faces: Path) -> None:
    done = run("train", "--data", faces, "--config", "demo", *SETS, "--keep-epochs", "1, 2", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    folder = Path(said["model"]).parent
    assert {"epoch_1.safetensors", "epoch_2.safetensors"} <= {path.name for path in folder.iterdir()}
    assert said["epochs"] == 2
    for wrong in ("0", "one", "1-3"):
        result = run("train", "--data", faces, "--keep-epochs", wrong)
        assert result.exit_code == 2
        assert "list of epochs" in result.output


def test_a_batch_is_drawn_instead_of_trained_on(run: Callable[..., Result], faces: Path) -> None:
    done = run("train", "--data", faces, "--config", "demo", "--show-batch", "a batch.png")
    assert done.exit_code == 0, done.output
    with Image.open("a batch.png") as picture:
        assert picture.width > 500
    assert not Path("runs").exists()


def test_what_would_change_a_resumed_run_is_refused(run: Callable[..., Result], faces: Path, tmp_path: Path) -> None:
    for words in (["--seed", "3"], ["--set", "train.epochs=9"], ["--config", "demo"], ["--data", faces]):
        result = run("train", "--resume", tmp_path, *words)
        assert result.exit_code == 2
        assert "--resume takes config and data from the run" in result.output
    result = run("train", "--resume", tmp_path)
    assert result.exit_code == 2
    assert "cannot be resumed" in result.output


def test_the_last_lines_say_where_the_model_is_and_what_comes_next(run: Callable[..., Result], faces: Path) -> None:
    done = run("train", "--data", faces, "--config", "demo", *SETS, "--out", "my runs")
    model, first, following = done.stdout.splitlines()[-3:]
    path = model.removeprefix("model: ")
    assert Path(path).is_file()
    assert first.startswith(f"next: dfpipe calibrate '{path}'   #")
    assert following == f"then: dfpipe infer clip.mp4 --model '{path}'"
