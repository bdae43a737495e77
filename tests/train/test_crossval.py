"""Cross-validation: who is held out, what is reported, and that a kill costs one fold at most."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn import metrics as sk

from dfpipe.config import Config, load_config
from dfpipe.errors import DataError, LeakError
from dfpipe.preprocess.manifest import CROPS_SCHEMA, MANIFEST, read_manifest, write_table
from dfpipe.train.card import read_card
from dfpipe.train.crossval import RESULT, TABLE, crossval, read_result, resume
from dfpipe.train.dataset import CropDataset
from dfpipe.train.foldreport import CONFUSION, METRICS, joined, text
from dfpipe.train.folds import HELD_OUT, fold_rows
from dfpipe.train.modelfile import load_model

FAST = (
    "train.model=simple_cnn",
    "train.image_size=32",
    "train.pretrained=none",
    "train.epochs=2",
    "train.augment=none",
)


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("demo", FAST)


@pytest.fixture(scope="module")
def done(faces: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crossval(config, faces, tmp_path_factory.mktemp("crossval"), 3, "demo", "cpu")


def with_rows(faces: Path, folder: Path, change: Any) -> Path:
    """A copy of an extraction whose manifest's rows were changed."""
    shutil.copytree(faces, folder)
    rows = pq.read_table(folder / MANIFEST).to_pylist()
    for row in rows:
        change(row)
    write_table(folder / MANIFEST, CROPS_SCHEMA, rows)
    return folder


def test_every_crop_is_held_out_once_and_its_source_seen_nowhere_else(faces: Path) -> None:
    manifest = read_manifest(faces)
    folds = fold_rows(manifest, 3, 0)
    held = [row for fold in folds for row in fold.rows[HELD_OUT]]
    assert sorted(held) == sorted(manifest.rows_of("train") + manifest.rows_of("validation"))
    assert not set(manifest.rows_of("test")) & {row for fold in folds for rows in fold.rows.values() for row in rows}
    for fold in folds:
        groups = {part: {manifest.columns["group"][row] for row in rows} for part, rows in fold.rows.items()}
        assert not groups["train"] & groups["validation"]
        assert not groups[HELD_OUT] & (groups["train"] | groups["validation"])
        assert {part: len(found) for part, found in groups.items()} == fold.groups
        assert sorted(row for rows in fold.rows.values() for row in rows) == sorted(held)
    assert [fold.rows for fold in fold_rows(manifest, 3, 0)] == [fold.rows for fold in folds]
    assert [fold.rows for fold in fold_rows(manifest, 3, 1)] != [fold.rows for fold in folds]


def test_files_with_the_same_content_stay_together(faces: Path, tmp_path: Path) -> None:
    folder = with_rows(faces, tmp_path / "copies", lambda row: row.update(split="train"))
    table = pq.read_table(folder / "inputs.parquet")
    rows = table.to_pylist()
    for row in rows:
        row["sha256"] = str(int(row["group"][-1]) // 2)  # sources 0 and 1 are copies, 2 and 3, ...
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), folder / "inputs.parquet")
    manifest = read_manifest(folder)
    for fold in fold_rows(manifest, 2, 0):
        for members in fold.rows.values():
            counted = Counter(int(manifest.columns["group"][row][-1]) // 2 for row in members)
            assert set(counted.values()) == {24}  # 2 sources x 2 labels x 6 frames


def test_folds_of_the_manifest_are_used(faces: Path, tmp_path: Path) -> None:
    folder = with_rows(faces, tmp_path / "given", lambda row: row.update(fold=int(row["group"][-1]) % 2))
    manifest = read_manifest(folder)
    for number, fold in enumerate(fold_rows(manifest, 2, 0)):
        assert {manifest.columns["fold"][row] for row in fold.rows[HELD_OUT]} == {number}
    assert len(fold_rows(manifest, 3, 0)) == 3  # as many as wanted, divided anew


def test_a_source_in_two_given_folds_is_refused(faces: Path, tmp_path: Path) -> None:
    folder = with_rows(faces, tmp_path / "leak", lambda row: row.update(fold=row["label"]))
    with pytest.raises(LeakError, match="fold 1 and fold 2"):
        fold_rows(read_manifest(folder), 2, 0)


def test_too_few_sources_are_refused_before_anything_is_trained(faces: Path, config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fold 8 of 8: no real crops; lower --folds"):
        crossval(config, faces, tmp_path / "runs", 8, "demo", "cpu")
    assert not (tmp_path / "runs").exists()


def test_the_held_out_fold_is_scored_by_the_model_of_the_others(faces: Path, done: Path, config: Config) -> None:
    manifest, known = read_manifest(faces), read_result(done)
    assert known["ended"]
    for fold, result in zip(fold_rows(manifest, 3, config.seed), known["results"], strict=True):
        network = load_model(done / result["model"]).network
        rows = fold.rows[HELD_OUT]
        crops = CropDataset(manifest, rows, 32, "none")
        with torch.inference_mode():
            scores = torch.sigmoid(network(torch.stack([crops[i, 0][0] for i in range(len(rows))])).double()).numpy()
        truth = np.array([manifest.columns["label"][row] for row in rows])
        assert result["metrics"]["auc"] == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-3)
        assert result["metrics"]["log_loss"] == pytest.approx(sk.log_loss(truth, scores), rel=1e-4)
        counts = [result["confusion"][name] for name in CONFUSION]
        assert counts == sk.confusion_matrix(truth, scores >= 0.5).ravel().tolist()
        assert result["groups"] == fold.groups
        card = read_card(done / result["model"])  # chosen on crops that were not held out
        assert card.metrics["validation"]["crops"] == len(fold.rows["validation"])
        assert sum(card.data["crops"]["train"].values()) == len(fold.rows["train"])


def test_mean_spread_and_sums(done: Path) -> None:
    known = read_result(done)
    for name in METRICS:
        values = [result["metrics"][name] for result in known["results"]]
        if None in values:
            assert known["mean"][name] is None
            assert known["standard_deviation"][name] is None
        else:
            assert known["mean"][name] == pytest.approx(np.mean(values))
            assert known["standard_deviation"][name] == pytest.approx(np.std(values, ddof=1))
    matrices = np.array([[result["confusion"][name] for name in CONFUSION] for result in known["results"]])
    assert list(known["confusion_sum"].values()) == matrices.sum(0).tolist()
    assert list(known["confusion_mean"].values()) == pytest.approx(matrices.mean(0).tolist())
    rows = list(csv.DictReader((done / TABLE).open()))
    assert [row["fold"] for row in rows] == ["1", "2", "3", "mean", "standard deviation"]
    assert float(rows[3]["auc"]) == pytest.approx(known["mean"]["auc"])
    assert float(rows[4]["tp"]) == pytest.approx(matrices[:, 3].std(ddof=1))
    assert all(len(line) <= 80 for line in text(known))


def test_what_is_undefined_in_a_fold_has_no_mean() -> None:
    folds: list[dict[str, Any]] = [
        {"metrics": dict.fromkeys(METRICS, 0.5) | {"precision": value}, "confusion": dict.fromkeys(CONFUSION, 1)}
        for value in (None, 0.5)
    ]
    found = joined(folds)
    assert (found["mean"]["precision"], found["standard_deviation"]["precision"]) == (None, None)
    assert (found["mean"]["recall"], found["standard_deviation"]["recall"]) == (0.5, 0.0)


def interrupted(done: Path, folder: Path) -> Path:
    """What a kill in the last fold leaves."""
    shutil.copytree(done, folder)
    known = read_result(folder)
    results = known["results"][:2]
    begun = {
        name: value for name, value in known.items() if not name.startswith(("mean", "standard", "confusion", "ended"))
    }
    (folder / RESULT).write_text(json.dumps({**begun, "results": results}))
    (folder / TABLE).unlink()
    return folder


def test_finished_folds_are_not_trained_again(done: Path, tmp_path: Path) -> None:
    folder = interrupted(done, tmp_path / "killed")
    models = [folder / result["model"] for result in read_result(done)["results"]]
    (models[2].parent / "half").write_text("of the run that was killed")
    (models[0].parent / ".tmp-1-curves.png").write_text("half")
    before = [model.stat().st_mtime_ns for model in models]
    assert resume(folder, "cpu") == folder
    assert [model.stat().st_mtime_ns for model in models[:2]] == before[:2]
    assert not models[2].exists()
    assert not list(folder.rglob(".tmp-*"))
    again, whole = read_result(folder), read_result(done)
    assert [r["metrics"] for r in again["results"]] == [r["metrics"] for r in whole["results"]]
    assert again["mean"] == whole["mean"]
    assert (folder / TABLE).read_text() == (done / TABLE).read_text()


def test_another_config_or_other_data_are_not_gone_on_with(
    done: Path, faces: Path, config: Config, tmp_path: Path
) -> None:
    folder = interrupted(done, tmp_path / "config")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("learning_rate: 0.001", "learning_rate: 0.002"))
    with pytest.raises(DataError, match="other data or with another config"):
        resume(folder, "cpu")
    folder = interrupted(done, tmp_path / "data")
    other = with_rows(faces, tmp_path / "other", lambda row: row.update(label=1 - row["label"]))
    known = read_result(folder) | {"data": str(other)}
    (folder / RESULT).write_text(json.dumps(known))
    with pytest.raises(DataError, match="other data or with another config"):
        resume(folder, "cpu")


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"crossval\.json is missing"):
        resume(tmp_path)
