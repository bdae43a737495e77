import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from dfpipe.config import Config, load_config
from dfpipe.demo import clip_frames, write_clip
from dfpipe.errors import LeakError, SourceError
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.manifest import MANIFEST, read_inputs, read_manifest
from dfpipe.types import Image, Label


def tree(folder: Path) -> dict[str, bytes]:
    """Manifest and crops of an extraction."""
    files = [folder / MANIFEST, *sorted((folder / "crops").rglob("*.jpg"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_manifest_crops_and_states_agree(faces: Path) -> None:
    manifest, inputs = read_manifest(faces), read_inputs(faces)
    assert len(inputs) == 16
    assert {row["state"] for row in inputs} == {"ok"}
    assert sum(row["crops"] for row in inputs) == len(manifest)
    on_disk = {str(p.relative_to(faces)) for p in (faces / "crops").rglob("*.jpg")}
    assert set(manifest.columns["crop"]) == on_disk
    assert cv2.imread(str(manifest.path(0))).shape == (256, 256, 3)
    assert {row["reader"] for row in inputs} == {"decord"}
    for row in inputs:
        assert (row["frames_wanted"], row["frames_decoded"], row["width"], row["codec"]) == (6, 6, 320, "h264")


def test_pairs_of_one_source_share_a_split(faces: Path) -> None:
    rows = read_inputs(faces)
    split_of = {row["group"]: row["split"] for row in rows}
    assert all(row["split"] == split_of[row["group"]] for row in rows)
    assert set(split_of.values()) == {"train", "validation", "test"}


def test_broken_and_faceless_inputs_get_their_state_and_others_go_on(
    tmp_path: Path, clip: Path, faceless_clip: Path, small_config: Config
) -> None:
    folder = tmp_path / "in" / "real"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / "good one.mp4")
    shutil.copy(faceless_clip, folder / "ramp.mp4")
    (folder / "text.mp4").write_text("no clip")
    (folder / "empty.mp4").touch()
    (folder / "cut.mp4").write_bytes(clip.read_bytes()[:500])
    summary = extract([tmp_path / "in"], [], tmp_path / "out", small_config, workers=2)
    states = {row["name"]: row["state"] for row in read_inputs(tmp_path / "out")}
    assert states == {
        "real/good one.mp4": "ok",
        "real/ramp.mp4": "no_face",
        "real/text.mp4": "unsupported",
        "real/empty.mp4": "corrupt",
        "real/cut.mp4": "corrupt",
    }
    assert sum(summary.states.values()) == summary.inputs == 5
    assert summary.failed == 3
    assert all(row["reason"] for row in read_inputs(tmp_path / "out") if row["state"] != "ok")


def test_finished_inputs_are_not_opened_again_and_changed_ones_are(
    clips: Path, tmp_path: Path, small_config: Config
) -> None:
    source = tmp_path / "in"
    shutil.copytree(clips, source)
    out = tmp_path / "out"
    assert extract([source], [], out, small_config, engine="serial").resumed == 0
    before = tree(out)
    again = extract([source], [], out, small_config, engine="serial")
    assert (again.resumed, again.inputs) == (16, 16)
    assert tree(out) == before
    write_clip(source / "real" / "source_0.mp4", clip_frames(9, Label.REAL))
    assert extract([source], [], out, small_config, engine="serial").resumed == 15
    assert len(read_manifest(out)) == len(list((out / "crops").rglob("*.jpg"))) + _orphans(out)
    assert extract([source], [], out, load_config("demo", ["preprocess.jpeg_quality=80"]), engine="serial").resumed == 0


def _orphans(out: Path) -> int:
    """Crops on disk that the manifest does not name, as a negative number."""
    named = set(read_manifest(out).columns["crop"])
    return -len([p for p in (out / "crops").rglob("*.jpg") if str(p.relative_to(out)) not in named])


def test_workers_and_engine_change_nothing(clips: Path, tmp_path: Path, faces: Path, small_config: Config) -> None:
    extract([clips], [], tmp_path / "two", small_config, workers=2)
    assert tree(tmp_path / "two") == tree(faces)


def test_killed_at_any_moment_and_run_again(clips: Path, tmp_path: Path, faces: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dfpipe", "extract", "--videos", str(clips), "--out", str(out), "--config", "demo"]
    command += ["--set", "preprocess.faces.frames=6", "--engine", "serial", "-q"]
    for wanted in (1, 5, 11):  # inputs finished before the kill
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.time() + 120
        while len(list((out / "crops").glob("*/*"))) < wanted and time.time() < deadline and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not (out / MANIFEST).exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert tree(out) == tree(faces)
    assert not list(out.glob(".tmp-*"))


def test_stills_that_are_crops_pass_through(tmp_path: Path, portrait: Image, small_config: Config) -> None:
    for split in ("Train", "Test"):
        for i in range(4):
            for label in ("Real", "Fake"):
                path = tmp_path / "Dataset" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                tight = portrait[60 - i : 180 + i, 165 - i : 285 + i]
                cv2.imwrite(str(path), cv2.cvtColor(cv2.resize(tight, (224, 224)), cv2.COLOR_RGB2BGR))
    out = tmp_path / "out"
    summary = extract([], [tmp_path / "Dataset"], out, small_config, engine="serial")
    manifest = read_manifest(out)
    assert summary.states == {"ok": 16}
    assert len(manifest) == 16
    assert set(manifest.columns["split"]) == {"train", "test"}
    assert manifest.columns["crop_scale"][0] == pytest.approx(1.1, abs=0.1)
    assert cv2.imread(str(manifest.path(0))).shape == (256, 256, 3)


def test_whole_photographs_are_searched(
    tmp_path: Path, save_still: Callable[[str, Image], Path], portrait: Image, small_config: Config
) -> None:
    save_still("photos/real/a.png", portrait)
    save_still("photos/real/b.png", np.zeros((300, 300, 3), np.uint8))
    out = tmp_path / "out"
    assert extract([], [tmp_path / "photos"], out, small_config, engine="serial").states == {"ok": 1, "no_face": 1}
    manifest = read_manifest(out)
    assert manifest.columns["crop_scale"] == pytest.approx([1.3])
    assert manifest.columns["x2"][0] < 300


def test_collections_add_up_in_one_folder(clips: Path, tmp_path: Path, portrait: Image, small_config: Config) -> None:
    (tmp_path / "stills" / "real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "stills" / "real" / "a.png"), portrait[:, :, ::-1])
    out = tmp_path / "out"
    extract([clips], [], out, small_config, engine="serial", limit=4)
    summary = extract([], [tmp_path / "stills"], out, small_config, engine="serial")
    assert (summary.inputs, len(read_inputs(out))) == (1, 5)
    assert {row["kind"] for row in read_inputs(out)} == {"video", "image"}


def test_a_publisher_s_leak_is_refused_by_name(tmp_path: Path, portrait: Image, small_config: Config) -> None:
    for name in ("Train/Real/a.png", "Test/Fake/b.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), portrait[:, :, ::-1])
    (tmp_path / "set" / "metadata.csv").write_text(
        "image,label,original\nTrain/Real/a.png,real,x\nTest/Fake/b.png,fake,x\n"
    )
    with pytest.raises(LeakError, match="x in test and train"):
        extract([], [tmp_path / "set"], tmp_path / "out", small_config, engine="serial")


def test_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        extract([], [], tmp_path / "out", load_config())


@pytest.mark.slow
def test_real_collections(real_data: Path, tmp_path: Path) -> None:
    config = load_config("default", ["preprocess.faces.frames=4"])
    summary = extract([real_data / "dfdc", real_data / "faceforensics"], [], tmp_path / "out", config)
    assert summary.states == {"ok": 25}
    assert len(summary.missing) == 5
    assert (tmp_path / "out" / "missing.txt").read_text().count("\n") == 5
    table = pq.read_table(tmp_path / "out" / MANIFEST).to_pylist()
    assert len({row["media_id"] for row in table}) == 25  # the same bare name occurs in four methods
    assert os.listdir(tmp_path / "out" / "crops")
