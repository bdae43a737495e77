"""Several machines that train together: real processes, two agents of torchrun, and losses of all kinds."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.checkpoint import STATE
from dfpipe.train.dataset import CropDataset
from dfpipe.train.loader import loader
from dfpipe.train.modelfile import load_model
from dfpipe.train.rows import training_rows
from dfpipe.train.validate import loss_and_metrics, scored

SETTINGS: dict[str, object] = {
    "model": "mobilenetv3_small_050",  # with batch statistics, which CPU processes do not share in a step
    "pretrained": "none",
    "image_size": 32,
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "schedule": "constant",
    "balance": "label",
    "augment": "light",
    "epochs": 2,
    "samples_per_epoch": 200,
    "batch_size": 4,  # 25 updates an epoch of two processes
    "checkpoint_minutes": 5e-4,
    "ema": 0.9,
    "loader_workers": 0,
}
WAIT_S = 120.0
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see _warn_of_restarts of train/world.py
# Notes which process it is, so that a test can kill the one that it means.
NOTING = """
import os, sys
from datetime import timedelta
from pathlib import Path
from dfpipe.cli import main
from dfpipe.train import world

notes, patience = Path(sys.argv.pop(1)), float(sys.argv.pop(1))
world.PATIENCE = timedelta(seconds=patience)
notes.mkdir(parents=True, exist_ok=True)
(notes / os.environ["RANK"]).write_text(str(os.getpid()))
main()
"""


def words(faces: Path, out: Path, **values: object) -> list[str]:
    """Arguments of one training on the CPU."""
    sets = [word for key, value in {**SETTINGS, **values}.items() for word in ("--set", f"train.{key}={value}")]
    return ["train", "--data", str(faces), "--out", str(out), "--device", "cpu", *sets]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def only_run(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(only_run(out) / "last.safetensors")


def figures(out: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without what depends on the clock."""
    rows = csv.DictReader((only_run(out) / "metrics.csv").open())
    return [{k: v for k, v in row.items() if k not in ("images_per_s", "loader_share", "seconds")} for row in rows]


def check_equal(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    assert figures(one) == figures(other)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Python with some words; what it left running is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def call(line: list[str], **environment: str) -> subprocess.Popen[str]:
        known = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        process = subprocess.Popen(
            [sys.executable, *line],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=known,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def noting(tmp_path: Path) -> Path:
    """A script that runs dfpipe; its first two arguments are where it notes its number, and its patience in seconds."""
    path = tmp_path / "noting.py"
    path.write_text(NOTING)
    return path


def torchrun(*flags: str) -> list[str]:
    return ["-m", "torch.distributed.run", *flags]


def wait_for(there: Callable[[], object], while_runs: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not there():
        assert while_runs.poll() is None, while_runs.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> str:
    """What a process said until its end."""
    return process.communicate(timeout=WAIT_S)[1]


@pytest.fixture(scope="module")
def undisturbed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes on one machine, to the end."""
    out = tmp_path_factory.mktemp("undisturbed") / "runs"
    line = [
        sys.executable,
        *torchrun("--standalone", "--nproc_per_node=2", "-m", "dfpipe"),
        *words(faces, out, checkpoint_minutes=10),
    ]
    subprocess.run(line, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=WAIT_S)
    return out


@pytest.mark.slow
def test_what_two_processes_validate_is_what_the_first_saves(faces: Path, undisturbed: Path) -> None:
    manifest = read_manifest(faces)
    crops = CropDataset(manifest, training_rows(manifest)["validation"], 32, "none")
    network = load_model(only_run(undisturbed) / "last.safetensors").network
    draws = [(row, 0) for row in range(len(crops))]
    found = loss_and_metrics(*scored(network, loader(crops, draws, 8, 0, pinned=False), torch.device("cpu")))
    told = float(figures(undisturbed)[-1]["validation_loss"])  # with 6 digits
    assert told == pytest.approx(found["loss"], abs=5e-6)


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_goes_on(
    faces: Path, undisturbed: Path, tmp_path: Path, start: Start, noting: Path
) -> None:
    out = tmp_path / "runs"
    flags = torchrun("--standalone", "--nproc_per_node=2", "--max-restarts=1")
    job = start([*flags, str(noting), str(tmp_path / "pids"), "60", *words(faces, out)], **OWN_STORE)
    wait_for(lambda: list(out.glob(f"*/{STATE}")), job)
    os.kill(int((tmp_path / "pids" / "1").read_text()), signal.SIGKILL)
    said = ended(job)
    assert job.returncode == 0, said
    assert "going on after epoch 0, batch " in said
    check_equal(out, undisturbed)  # one folder, the same weights


@pytest.mark.slow
def test_a_killed_node_ends_both_and_resume_goes_on(
    faces: Path, undisturbed: Path, tmp_path: Path, start: Start, noting: Path
) -> None:
    out = tmp_path / "runs"
    flags = torchrun("--nnodes=2", "--nproc_per_node=1", "--rdzv-backend=c10d", "--rdzv-id=a")
    flags += [f"--rdzv-endpoint=localhost:{free_port()}"]
    line = [*flags, str(noting), str(tmp_path / "pids"), "60", *words(faces, out)]
    nodes = [start(line), start(line)]
    wait_for(lambda: list(out.glob(f"*/{STATE}")), nodes[0])
    os.kill(int((tmp_path / "pids" / "1").read_text()), signal.SIGKILL)
    said = "".join(map(ended, nodes))
    assert [node.returncode for node in nodes] == [1, 1], said
    assert "one of the 2 processes has ended" in said
    assert f"dfpipe train --resume {only_run(out)}" in said
    assert not (only_run(out) / "last.safetensors").exists()  # in the middle of the first epoch
    again = torchrun("--standalone", "--nproc_per_node=2", "-m", "dfpipe", "train", "--device", "cpu")
    job = start([*again, "--resume", str(only_run(out))])
    said = ended(job)
    assert job.returncode == 0, said
    check_equal(out, undisturbed)


def pair(start: Start, lines: tuple[list[str], list[str]]) -> list[subprocess.Popen[str]]:
    """Two processes of one training without torchrun: nobody ends one of them because the other did."""
    known: Mapping[str, str] = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    return [start(line, RANK=str(rank), **known) for rank, line in enumerate(lines)]


@pytest.mark.slow
def test_one_that_cannot_begin_ends_all_with_its_reason(faces: Path, tmp_path: Path, start: Start) -> None:
    out = tmp_path / "runs"
    lines = (["-m", "dfpipe", *words(faces, out)], ["-m", "dfpipe", *words(tmp_path / "nothing", out)])
    both = pair(start, lines)
    said = [ended(process) for process in both]
    assert [process.returncode for process in both] == [2, 2], said
    assert f"rank 1 on {socket.gethostname()}: " in said[0]
    assert all(str(tmp_path / "nothing") in text for text in said)
    assert not out.exists()


@pytest.mark.slow
def test_one_with_other_settings_ends_all(faces: Path, tmp_path: Path, start: Start) -> None:
    out = tmp_path / "runs"
    lines = (["-m", "dfpipe", *words(faces, out)], ["-m", "dfpipe", *words(faces, out, learning_rate=0.5)])
    both = pair(start, lines)
    said = [ended(process) for process in both]
    assert [process.returncode for process in both] == [2, 2], said
    assert all("rank 1 on" in text and "has other settings than rank 0" in text for text in said)
    assert not out.exists()


@pytest.mark.slow
def test_one_that_does_not_answer_ends_the_other(faces: Path, tmp_path: Path, start: Start, noting: Path) -> None:
    out = tmp_path / "runs"
    line = [str(noting), str(tmp_path / "pids"), "6", *words(faces, out)]
    first, second = pair(start, (line, line))
    wait_for(lambda: list(out.glob(f"*/{STATE}")), first)
    second.send_signal(signal.SIGSTOP)
    said = ended(first)
    assert first.returncode == 130, said
    assert "did not answer" in said
    assert json.loads((only_run(out) / "run.json").read_text())["processes"] == 2
