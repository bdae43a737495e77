"""The engine `ray` on a real cluster of this machine: what is killed, lost, or not seen there."""

import dataclasses
import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.config import Config, LimitsConfig
from dfpipe.demo import clip_frames, write_clip
from dfpipe.errors import MediaCrashed, MediaTimeout, ModelFileError, UsageError
from dfpipe.infer.actorscorer import actor_scorer
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.inputs import Upload
from dfpipe.infer.looking import LookJob
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.manifest import MANIFEST, read_inputs
from dfpipe.rayengine import Cluster, Crew, path_of
from dfpipe.train.openmodel import open_model
from dfpipe.types import Label, Verdict
from dfpipe.workers import run_all

NOTHING = functools.partial(int, 0)
on_two_cores = pytest.mark.usefixtures("cluster")
pytestmark = pytest.mark.slow


def results(task: Any, inputs: list[Any], **rest: Any) -> dict[Any, Any]:
    """Every input has one result."""
    pairs = list(run_all(task, inputs, setup=NOTHING, engine="ray", **{"workers": 2, **rest}))
    assert len(pairs) == len(inputs)
    return dict(pairs)


# ---- the same as on one machine --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources, each real and fake."""
    folder = tmp_path_factory.mktemp("few")
    for source in range(3):
        for label in Label:
            write_clip(folder / label.name.lower() / f"source_{source}.mp4", clip_frames(source, label))
    return folder


@pytest.fixture(scope="module")
def undisturbed(few: Path, tmp_path_factory: pytest.TempPathFactory, small_config: Config) -> Path:
    """What extraction makes of them without any cluster."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert extract([few], [], out, small_config, engine="serial").states == {"ok": 6}
    return out


@on_two_cores
def test_manifest_and_crops_are_those_of_the_other_engines(
    few: Path, undisturbed: Path, tmp_path: Path, small_config: Config
) -> None:
    extract([few], [], tmp_path / "local", small_config, engine="local", workers=2)
    extract([few], [], tmp_path / "ray", small_config, engine="ray", workers=2)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local") == tree(undisturbed)
    rows = [[{**row, "seconds": 0} for row in read_inputs(out)] for out in (undisturbed, tmp_path / "ray")]
    assert rows[0] == rows[1]


def tree(folder: Path) -> dict[str, bytes]:
    """Manifest and crops of an extraction."""
    files = [folder / MANIFEST, *sorted((folder / "crops").rglob("*.jpg"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@on_two_cores
def test_verdicts_are_those_of_the_other_engines(
    clip: Path, faceless_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths too, and files that are broken or not there."""
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("no clip")
    paths = [clip, faceless_clip, Path("text.mp4"), Path("gone.mp4")]
    told: dict[str, dict[str, Verdict]] = {}
    loaded = {}
    for engine in ("serial", "local", "ray"):
        detector = Detector.load(embedded_model(), "cpu", frames=8, later=True)
        verdicts = detector.judge_all(paths, engine, workers=2)
        told[engine] = {v.path: dataclasses.replace(v, seconds=0.0) for v in verdicts}
        loaded[engine] = "scorer" in vars(detector)
    assert told["ray"] == told["local"] == told["serial"]
    assert loaded == {"serial": True, "local": True, "ray": False}  # with Ray the actors hold the network
    assert sorted(v.state for v in told["ray"].values()) == ["no_face", "ok", "unreadable", "unsupported"]


@on_two_cores
def test_a_model_whose_weights_are_damaged_is_refused_by_the_actor(clip: Path, tmp_path: Path) -> None:
    whole = bytearray(Path(str(embedded_model())).read_bytes())
    whole[-100:] = b"\xff" * 100  # no numbers: the card says nothing of it
    (tmp_path / "damaged.safetensors").write_bytes(whole)
    detector = Detector.load(tmp_path / "damaged.safetensors", "cpu", frames=4, later=True)
    with pytest.raises(ModelFileError, match="no numbers: the file is damaged"):
        list(detector.judge_all([clip], "ray", workers=1))


def test_a_gpu_must_be_reserved(clip: Path) -> None:
    detector = Detector.load(embedded_model(), "cuda", later=True)
    with pytest.raises(UsageError, match="--gpus-per-worker"):
        list(detector.judge_all([clip], Cluster()))


def test_a_model_file_that_changed_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(Path(str(embedded_model())).read_bytes())
    model = open_model(path)
    assert hashlib.sha256(model.content()).hexdigest() == model.sha256
    path.write_bytes(b"another")
    with pytest.raises(ModelFileError, match="changed since"):
        actor_scorer(model, 0.0, 8)


@on_two_cores
def test_results_come_as_through_a_pipe() -> None:
    """Ray's own arrays could not be written to."""
    (array,) = results(np.ones, [1_000_000]).values()
    array += 1
    assert array.sum() == 2_000_000


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@on_two_cores
def test_a_thousand_with_a_poison_and_a_hang(capfd: pytest.CaptureFixture[str]) -> None:
    found = results(mostly_cheap, list(range(1000)), bounds=LimitsConfig(seconds=3))
    crashed = found.pop(200)
    assert isinstance(crashed, MediaCrashed)
    assert "the worker that had it died 2 times" in str(crashed)
    assert isinstance(found.pop(700), MediaTimeout)
    assert found == {n: n for n in range(1000) if n not in (200, 700)}
    time.sleep(1)  # Ray tells of dead workers when it comes to it
    assert capfd.readouterr().out == ""


def mostly_cheap(number: int) -> int:
    """The poison takes its actor along, not only the child of the actor that it is given to."""
    if number == 200:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if number == 700:
        time.sleep(600)
    return number


@on_two_cores
def test_an_actor_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    done, actors = Counter[int](), set()
    for number, actor in run_all(write_down, numbered(tmp_path, 60), setup=NOTHING, engine="ray", workers=2):
        done[number[1]] += 1
        actors.add(actor)
        if sum(done.values()) == 20:
            os.kill(actor, signal.SIGKILL)
    assert done == Counter(range(60))
    assert len(actors) == 3
    begun = Counter(int(line) for line in (tmp_path / "begun").read_text().split())
    assert sorted(begun) == list(range(60))
    assert sum(begun.values()) <= 61  # the one that it was at


def numbered(folder: Path, count: int) -> list[tuple[Path, int]]:
    (folder / "begun").touch()
    return [(folder / "begun", number) for number in range(count)]


def write_down(item: tuple[Path, int]) -> int:
    """Says that it has begun, takes its time, and returns its actor's process id."""
    with item[0].open("a") as file:
        file.write(f"{item[1]}\n")
    time.sleep(0.05)
    return os.getppid()


@on_two_cores
def test_an_actor_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crew, "_limit", 3.0)
    found = results(freeze, [1, 0, 0.5], workers=1)
    assert isinstance(found.pop(1), MediaTimeout)
    assert found == {0: 0, 0.5: 0.5}


def freeze(number: float) -> float:
    """Stops its actor, which then ends no child."""
    if number == 1:
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(600)
    return number


@on_two_cores
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no path that one process sees and another does not")
def test_a_node_that_does_not_see_the_inputs_is_named(clip: Path) -> None:
    """It must not make thousands of inputs unreadable."""
    with clip.open("rb") as file:
        os.dup2(file.fileno(), 900)
    try:
        with pytest.raises(UsageError, match="every node of the cluster sees"):
            results(str, [Path("/proc/self/fd/900")])
    finally:
        os.close(900)
    assert results(os.path.exists, [clip.with_name("gone")]) == {clip.with_name("gone"): False}


@on_two_cores
def test_a_node_with_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfpipe.rayengine.__version__", "0.0.1")
    with pytest.raises(UsageError, match=r"this machine 0\.0\.1: install the same"):
        results(abs, [-1])


# ---- a driver that is stopped, killed, and started again -------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who lives")
def test_the_driver_is_stopped_then_killed_then_started_again(few: Path, undisturbed: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dfpipe", "extract", "--videos", str(few), "--out", str(out), "--config", "demo"]
    command += ["--set", "preprocess.faces.frames=6", "--engine", "ray", "--workers", "2", "--json", "-q"]
    for wanted, how, code in ((1, signal.SIGTERM, 143), (3, signal.SIGKILL, -9)):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(list((out / "crops").glob("*/*"))) < wanted and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.02)
        below = {pid for pid in descendants(run.pid) if works(pid)}
        assert len(below) >= 3  # two actors, and the child that has answered
        run.send_signal(how)
        assert run.wait(60) == code
        while any(map(works, below)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(works, below))
    last = subprocess.run(command, check=True, capture_output=True, text=True)
    told = json.loads(last.stdout)  # nothing else is written there
    assert told["inputs"] == 6
    assert told["resumed"] >= 3
    assert tree(out) == tree(undisturbed)
    assert not list(out.glob(".tmp-*"))


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found, more = {pid}, {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        found |= more
    return found - {pid}


def works(pid: int) -> bool:
    """Whether a process is there and an actor or its child. Of Ray's own, two helpers outlive a killed driver by 60 s."""
    try:
        words = Path("/proc", str(pid), "cmdline").read_text()  # empty if it is dead and nobody has asked about it
    except OSError:
        return False
    return "ray::Worker" in words or "spawn_main" in words


# ---- what needs no cluster -------------------------------------------------------------------------------------------


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'dfpipe\[ray\]'"):
        results(abs, [-1])
    assert results(abs, []) == {}


def test_addresses_that_cannot_be() -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="Ray Client"):
        list(run_all(abs, [-1], setup=NOTHING, engine=Cluster("ray://head:10001")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"cannot reach a Ray cluster at {address}"):
        list(run_all(abs, [-1], setup=NOTHING, engine=Cluster(address)))
    for words in (["--address", "auto"], ["--gpus-per-worker", "0.5"]):
        told = CliRunner().invoke(main, ["infer", "x.mp4", *words])
        assert told.exit_code == 2
        assert "belong to --engine ray" in told.output


def test_the_file_of_an_input_is_known() -> None:
    path = Path("a.mp4")
    assert path_of(LookJob(Upload(path), Path("looked"))) == path
    assert path_of((path, ("x.png",))) == path
    assert path_of((3, "a.mp4")) is None


def test_ray_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, dfpipe.cli, dfpipe.workers, dfpipe.infer.detector; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
