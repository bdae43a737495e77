"""Real processes: torchrun with two, and kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dfpipe.train.checkpoint import STATE

SETTINGS = {
    "model": "simple_cnn",
    "pretrained": "none",
    "image_size": 32,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "schedule": "constant",
    "balance": "label",
    "augment": "light",
    "early_stop": 0,
    "loader_workers": 0,
}


def words(faces: Path, out: Path, **values: object) -> list[str]:
    sets = [word for key, value in {**SETTINGS, **values}.items() for word in ("--set", f"train.{key}={value}")]
    return ["-m", "dfpipe", "train", "--data", str(faces), "--out", str(out), "--json", *sets]


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    (folder,) = out.iterdir()
    return load_file(folder / "last.safetensors")


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_doubled_batch(faces: Path, tmp_path: Path) -> None:
    stages = "[{free: last 1, epochs: 1}, {free: all, epochs: 1}]"
    values = {"samples_per_epoch": 44, "stages": stages}  # the last step is not a whole one
    alone = [sys.executable, *words(faces, tmp_path / "one", batch_size=8, **values), "--device", "cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    both = [*torchrun, *words(faces, tmp_path / "two", batch_size=4, **values), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    one, two = (
        subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300) for line in (alone, both)
    )
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    ours, theirs = last_weights(tmp_path / "two"), last_weights(tmp_path / "one")
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, atol=1e-5, rtol=1e-3)
    said = [json.loads(result.stdout) for result in (one, two)]  # one log, one answer
    assert said[0]["validation"]["auc"] == pytest.approx(said[1]["validation"]["auc"], abs=1e-3)
    assert two.stderr.count("epoch 2/2") == 1
    assert "2 processes x 4 crops a step" in two.stderr


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_and_resumed(faces: Path, tmp_path: Path) -> None:
    values = {"epochs": 1, "samples_per_epoch": 600, "batch_size": 4, "checkpoint_minutes": 5e-4, "ema": 0.9}
    subprocess.run([sys.executable, *words(faces, tmp_path / "whole", **values)], check=True, capture_output=True)
    killed = subprocess.Popen([sys.executable, *words(faces, tmp_path / "killed", **values)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob(f"*/{STATE}")):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    (folder,) = (tmp_path / "killed").iterdir()
    assert not (folder / "model.safetensors").exists()  # in the middle of the first epoch
    resumed = [sys.executable, "-m", "dfpipe", "train", "--resume", str(folder)]
    done = subprocess.run(resumed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on after epoch 0, batch " in done.stderr
    ours, theirs = last_weights(tmp_path / "killed"), last_weights(tmp_path / "whole")
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
