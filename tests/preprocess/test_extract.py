import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from dfpipe.config import Config, load_config
from dfpipe.demo import clip_frames, write_clip
from dfpipe.errors import ConfigError, LeakError, SourceError
from dfpipe.fetching import run_fetched
from dfpipe.ledger import Ledger
from dfpipe.preprocess.extract import dry_run, extract
from dfpipe.preprocess.manifest import INPUTS, MANIFEST, read_inputs, read_manifest
from dfpipe.preprocess.publish import Summary
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
    assert {row["reader"] for row in inputs} == {"pyav"}
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
    shutil.copytree(clips, source, ignore=shutil.ignore_patterns("source_[4-7].mp4"))
    out = tmp_path / "out"
    assert extract([source], [], out, small_config, engine="serial").resumed == 0
    before = tree(out)
    again = extract([source], [], out, small_config, engine="serial")
    assert (again.resumed, again.inputs) == (8, 8)
    assert tree(out) == before
    write_clip(source / "real" / "source_0.mp4", clip_frames(9, Label.REAL))
    assert extract([source], [], out, small_config, engine="serial").resumed == 7
    assert len(read_manifest(out)) == len(list((out / "crops").rglob("*.jpg"))) + _orphans(out)
    assert extract([source], [], out, load_config("demo", ["preprocess.jpeg_quality=80"]), engine="serial").resumed == 0


def test_tables_are_written_anew_only_where_something_changed(
    clips: Path, tmp_path: Path, small_config: Config
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(clips, source, ignore=shutil.ignore_patterns("source_[2-7].mp4"))

    def again(config: Config = small_config) -> tuple[Summary, bool]:
        before = (out / MANIFEST).stat().st_ino if (out / MANIFEST).exists() else 0
        summary = extract([source], [], out, config, engine="serial")
        return summary, (out / MANIFEST).stat().st_ino != before

    first, _ = again()
    content = tree(out)
    second, written = again()
    assert not written
    assert replace(second, resumed=0) == first
    ledger = Ledger(out / "ledger.sqlite")
    ((key, row), *_) = ledger.rows()
    ledger.record(key, ledger.fingerprints()[key], row)  # as a run that was killed before it wrote the tables
    ledger.close()
    assert again()[1]
    (out / INPUTS).unlink()
    assert again()[1]
    (out / MANIFEST).write_bytes((out / MANIFEST).read_bytes()[:100])
    assert again()[1]
    assert tree(out) == content
    assert again(load_config("demo", ["preprocess.faces.frames=6", "train.epochs=6", "seed=5"]))[1]
    assert not again(load_config("demo", ["preprocess.faces.frames=6", "train.epochs=6", "seed=5"]))[1]


def test_what_stills_are_is_found_once(
    tmp_path: Path, portrait: Image, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("real", "fake"):
        path = tmp_path / "in" / label / "a.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), cv2.cvtColor(portrait[60:180, 165:285], cv2.COLOR_RGB2BGR))
    looked = []

    def counted(*args: Any, **rest: Any) -> Iterator[tuple[Any, Any]]:
        looked.append(1)
        return run_fetched(*args, **rest)

    monkeypatch.setattr("dfpipe.preprocess.jobs.run_fetched", counted)

    def again(config: Config = small_config) -> tuple[int, int]:
        summary = extract([], [tmp_path / "in"], tmp_path / "out", config, engine="serial")
        return summary.resumed, len(looked)

    assert [again(), again()] == [(0, 1), (2, 1)]
    assert dry_run([], [tmp_path / "in"], tmp_path / "out", small_config, engine="serial") == (2, 0)
    assert len(looked) == 1
    cv2.imwrite(str(path), cv2.cvtColor(portrait[61:181, 165:285], cv2.COLOR_RGB2BGR))
    assert again()[1] == 2
    assert again(small_config.with_preprocess(jpeg_quality=80)) == (0, 3)


def _orphans(out: Path) -> int:
    """Crops on disk that the manifest does not name, as a negative number."""
    named = set(read_manifest(out).columns["crop"])
    return -len([p for p in (out / "crops").rglob("*.jpg") if str(p.relative_to(out)) not in named])


def test_workers_and_engine_change_nothing(clips: Path, tmp_path: Path, faces: Path, small_config: Config) -> None:
    extract([clips], [], tmp_path / "two", small_config, workers=2)
    assert tree(tmp_path / "two") == tree(faces)


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again(clips: Path, tmp_path: Path, faces: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dfpipe", "extract", "--videos", str(clips), "--out", str(out), "--config", "demo"]
    command += ["--set", "preprocess.faces.frames=6", "--engine", "serial", "-q"]
    for wanted in (1, 5, 11):  # inputs finished before the kill
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list((out / "crops").glob("*/*"))) < wanted and time.monotonic() < deadline and run.poll() is None:
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


def test_dry_run_counts_and_writes_nothing(clips: Path, tmp_path: Path, faces: Path, small_config: Config) -> None:
    assert dry_run([clips], [], tmp_path / "out", small_config) == (16, 16)
    assert not (tmp_path / "out").exists()
    assert dry_run([clips], [], faces, small_config) == (16, 0)
    assert dry_run([clips], [], faces, small_config, redo=["ok"]) == (16, 16)
    assert dry_run([clips], [], faces, small_config, redo=["no_face"]) == (16, 0)
    with pytest.raises(ConfigError, match="unknown --redo state 'done'"):
        dry_run([clips], [], faces, small_config, redo=["done"])


def test_shards_are_apart_and_complete(clips: Path, tmp_path: Path, faces: Path, small_config: Config) -> None:
    found = []
    for part in (1, 2, 3):
        out = tmp_path / str(part)
        extract([clips], [], out, small_config, engine="serial", shard=(part, 3))
        found += [row["media_id"] for row in read_inputs(out)]
    assert len(found) == 16
    assert set(found) == {row["media_id"] for row in read_inputs(faces)}


def test_folds_png_and_alignment(clips: Path, tmp_path: Path) -> None:
    settings = [
        "preprocess.faces.frames=4",
        "preprocess.folds=3",
        "preprocess.crop_format=png",
        "preprocess.faces.align=true",
    ]
    extract([clips], [], tmp_path / "out", load_config("demo", settings), engine="serial", limit=6)
    manifest = read_manifest(tmp_path / "out")
    assert set(manifest.columns["fold"]) <= {0, 1, 2}
    fold_of = dict(zip(manifest.columns["group"], manifest.columns["fold"], strict=True))
    assert [fold_of[group] for group in manifest.columns["group"]] == manifest.columns["fold"]
    assert manifest.path(0).suffix == ".png"
    assert cv2.imread(str(manifest.path(0))).shape == (256, 256, 3)


def archive(folder: Path, portrait: Image) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for i, name in enumerate(("Train/Real/a.png", "Train/Fake/b.png", "Test/Real/c.png")):
            tight = portrait[60 - i : 180 + i, 165 - i : 285 + i, ::-1]
            zipped.writestr(f"Dataset/{name}", cv2.imencode(".png", np.ascontiguousarray(tight))[1].tobytes())
        zipped.writestr("Dataset/Train/Fake/broken.png", b"\x89PNG\r\n\x1a\nbroken")
    return path


def test_archives_are_read_without_unpacking(tmp_path: Path, portrait: Image, small_config: Config) -> None:
    out = tmp_path / "out"
    summary = extract([], [archive(tmp_path, portrait)], out, small_config, engine="serial")
    assert summary.states == {"ok": 3, "corrupt": 1}
    manifest = read_manifest(out)
    assert set(manifest.columns["split"]) == {"train", "test"}
    assert set(manifest.columns["as_is"]) == {True}
    assert sorted(os.listdir(tmp_path)) == ["out", "set.zip"]
    assert extract([], [tmp_path / "set.zip"], out, small_config, engine="serial").resumed == 4


def test_clips_shipped_as_frames(tmp_path: Path, small_config: Config, portrait: Image) -> None:
    frames = [f"frames/000/{i:03}.png" for i in range(8)]
    for i, name in enumerate(frames):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), portrait[60 + i : 180 + i, 165:285, ::-1])
    content = {"Made": {"Made_real": {"train": {"000": {"label": "Made_real", "frames": frames}}}}}
    (tmp_path / "Made.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    summary = extract([], [tmp_path], out, small_config, engine="serial")
    assert summary.states == {"ok": 1}
    manifest = read_manifest(out)
    assert len(manifest) == 6
    assert set(manifest.columns["kind"]) == {"video"}
    assert set(manifest.columns["label"]) == {0}
    (row,) = read_inputs(out)
    assert (row["frames_wanted"], row["frames_decoded"], row["reader"]) == (6, 6, "pillow")


def test_at_least_looks_on_until_enough_frames_show_a_face(tmp_path: Path) -> None:
    """A face in the middle third only: of 6 uniform frames 2 show it."""
    made = list(clip_frames(0, Label.REAL))
    grey = np.full_like(made[0], 90)
    (tmp_path / "real").mkdir()
    write_clip(tmp_path / "real" / "a.mp4", (f if 16 <= i < 32 else grey for i, f in enumerate(made)))
    for sampling, expected in (("uniform", 2), ("at_least", 6)):
        config = load_config("demo", ["preprocess.faces.frames=6", f"preprocess.faces.sampling={sampling}"])
        extract([tmp_path], [], tmp_path / sampling, config, engine="serial")
        (row,) = read_inputs(tmp_path / sampling)
        assert row["frames_with_face"] == expected if sampling == "uniform" else row["frames_with_face"] >= expected
        assert (row["frames_wanted"] > 6) == (sampling == "at_least")
        times = read_manifest(tmp_path / sampling).columns["time_s"]
        assert times == sorted(times)


def test_a_full_disk_stops_cleanly_and_the_rest_follows_later(clips: Path, tmp_path: Path, faces: Path) -> None:
    """The limit on file size stands in for a full disk: crops are small, the tables at the end are not."""
    out = tmp_path / "out"
    words = ["extract", "--videos", str(clips), "--out", str(out), "--config", "demo", "--engine", "serial", "-q"]
    words += ["--set", "preprocess.faces.frames=6"]
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))\n"
        "from dfpipe.cli import main\n"
        f"main({words!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 5, run.stderr
    assert "free" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (out / MANIFEST).exists()
    subprocess.run([sys.executable, "-m", "dfpipe", *words], check=True, stdout=subprocess.DEVNULL)
    assert tree(out) == tree(faces)


def test_copies_of_a_file_stay_on_one_side(clips: Path, tmp_path: Path, small_config: Config) -> None:
    folder = tmp_path / "in"
    shutil.copytree(clips, folder)
    for i in range(8):
        shutil.copy(folder / "real" / f"source_{i}.mp4", folder / "real" / f"copy_of_{i}.mp4")
    extract([folder], [], tmp_path / "out", small_config, engine="serial")
    split_of = {row["name"]: row["split"] for row in read_inputs(tmp_path / "out")}
    for i in range(8):
        assert split_of[f"real/copy_of_{i}.mp4"] == split_of[f"real/source_{i}.mp4"] == split_of[f"fake/source_{i}.mp4"]


def test_a_publisher_s_copies_are_told(tmp_path: Path, portrait: Image, small_config: Config) -> None:
    for name in ("Train/Real/a.png", "Test/Real/b.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), portrait[:, :, ::-1])
    summary = extract([], [tmp_path / "set"], tmp_path / "out", small_config, engine="serial")
    assert any(note.startswith("1 files lie byte for byte in two") for note in summary.notes)


def test_a_folder_named_twice_is_an_error(clips: Path, tmp_path: Path, small_config: Config) -> None:
    with pytest.raises(SourceError, match="name a folder once"):
        extract([clips, clips], [], tmp_path / "out", small_config)


@pytest.mark.parametrize(
    "name", [b"caf\xe9.mp4", b"new\nline.mp4", b"'quotes\" $(id) %s.mp4", "视频 ünï.mp4".encode(), b"-rf.mp4"]
)
def test_difficult_names(clip: Path, tmp_path: Path, small_config: Config, name: bytes) -> None:
    folder = tmp_path / "in" / "real"
    folder.mkdir(parents=True)
    try:
        shutil.copy(clip, os.path.join(os.fsencode(folder), name))
    except OSError:
        pytest.skip("this file system refuses the name")
    summary = extract([tmp_path / "in"], [], tmp_path / "out", small_config, engine="serial")
    assert summary.states == {"ok": 1}
    assert read_manifest(tmp_path / "out").columns["name"][0] == "real/" + name.decode(errors="backslashreplace")
    assert extract([tmp_path / "in"], [], tmp_path / "out", small_config, engine="serial").resumed == 1
