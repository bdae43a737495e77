import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfpipe.config import Config
from dfpipe.errors import DataError, LeakError, UsageError
from dfpipe.infer.detector import Detector
from dfpipe.infer.evaluate import Evaluated, Options, evaluate, evaluate_scores, named
from dfpipe.infer.scores import read_scores
from dfpipe.preprocess.manifest import read_inputs


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


@pytest.fixture(scope="module")
def done(detector: Detector, faces: Path, tmp_path_factory: pytest.TempPathFactory, small_config: Config) -> Evaluated:
    return evaluate({"one": detector}, faces, tmp_path_factory.mktemp("evaluated"), small_config, Options(resamples=50))


def figures(page: str) -> list[str]:
    return re.findall(r"\b\d\.\d{3}\b", page)


def test_levels_and_counts(done: Evaluated) -> None:
    found = done.results["models"]["one"]
    clip, frame = found["levels"]["clip"], found["levels"]["frame"]
    assert clip["count"] == found["coverage"]["scored"] == found["coverage"]["inputs"]
    assert frame["count"] == 6 * clip["count"]
    assert clip["real"] == clip["fake"] > 0
    assert sum(clip["confusion"].values()) == clip["count"]


def test_page_json_and_scores_say_the_same(done: Evaluated, tmp_path: Path) -> None:
    stored = json.loads((done.out / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(done.results))
    again = evaluate_scores(done.out / "scores.parquet", tmp_path / "again", 50)
    assert json.loads(json.dumps(again.results)) == stored
    assert figures(again.page.read_text()) == figures(done.page.read_text())
    auc = stored["models"]["one"]["levels"]["clip"]["metrics"]["auc"]
    assert f"{auc:.3f}" in done.page.read_text()
    assert (tmp_path / "again" / "summary.csv").read_text() == (done.out / "summary.csv").read_text()


def test_clip_scores_are_those_of_inference(done: Evaluated, faces: Path, detector: Detector) -> None:
    from dfpipe.infer.levels import levels_of

    scores = read_scores(done.out / "scores.parquet")
    clips = levels_of(scores, detector.config.aggregate, detector.model.card.band, detector.config.min_frames)["clip"]
    ours = dict(zip(clips.columns["name"], zip(clips.p_fake, clips.columns["verdict"], strict=True), strict=True))
    for row in read_inputs(faces):
        if row["split"] == "test":
            (verdict,) = detector.judge_all([Path(row["path"])], engine="serial")
            assert ours[row["name"]][0] == pytest.approx(verdict.p_fake, abs=0.02)  # the stored crops are JPEG
            assert ours[row["name"]][1] == str(verdict.verdict)


def test_a_strongly_compressed_clip_counts_as_inference_judges_it(done: Evaluated, detector: Detector) -> None:
    from dfpipe.infer.levels import levels_of

    scores = read_scores(done.out / "scores.parquet")
    assert all(bits and bits > 0 for bits in scores.columns["bits_per_pixel"])
    few = replace(scores, columns={**scores.columns, "bits_per_pixel": [0.001] * len(scores)})
    for table, said in ((few, set()), (scores, {"REAL"})):
        verdicts = levels_of(table, "mean_logit", (0.98, 0.99), detector.config.min_frames)["clip"].columns["verdict"]
        assert {"REAL"} & set(verdicts) == said


def test_the_page_stands_alone(done: Evaluated) -> None:
    page = done.page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "@media print" in page
    assert {"roc_clip.png", "confusion_1.png", "reliability_1.png"} <= {p.name for p in done.out.glob("*.png")}


def test_a_source_is_scored_without_loss(detector: Detector, clips: Path, tmp_path: Path, small_config: Config) -> None:
    options = Options(resamples=20, engine="serial", limit=2, leaks="keep")
    done = evaluate({"one": detector}, clips, tmp_path / "out", small_config, options)
    scores = read_scores(done.out / "scores.parquet")
    (verdict,) = detector.judge_all([clips / scores.columns["name"][0]], engine="serial")
    ours = [
        p
        for p, m in zip(scores.columns["p_fake"], scores.columns["media_id"], strict=True)
        if m == scores.columns["media_id"][0]
    ]
    assert ours == pytest.approx(
        [s.p_fake for s in verdict.scores], abs=1e-6
    )  # batches differ, and with them the last digits


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_training_data_are_refused(detector: Detector, faces: Path, tmp_path: Path, small_config: Config) -> None:
    with pytest.raises(LeakError, match=r"source_\d.*--leaks drop"):
        evaluate({"one": detector}, faces, tmp_path / "out", small_config, Options(split="train"))
    allowed = evaluate({"one": detector}, faces, tmp_path / "out", small_config, Options("train", 20, leaks="keep"))
    assert "TOO GOOD" in allowed.page.read_text()


def test_training_data_can_be_left_out(detector: Detector, faces: Path, tmp_path: Path, small_config: Config) -> None:
    done = evaluate({"one": detector}, faces, tmp_path / "out", small_config, Options("all", 20, leaks="drop"))
    found = done.results["models"]["one"]
    trained = {row["media_id"] for row in read_inputs(faces) if row["split"] == "train"}
    assert found["left_out"] == len(trained) > 0
    assert found["coverage"]["inputs"] == 16 - len(trained)
    assert not trained & set(read_scores(done.out / "scores.parquet").columns["media_id"])
    assert "left out" in done.page.read_text()


def test_copies_of_training_files_are_found_and_clips_without_a_face_counted(
    detector: Detector, faces: Path, faceless_clip: Path, tmp_path: Path, small_config: Config
) -> None:
    """Another name and another data set, the same bytes."""
    seen = next(row for row in read_inputs(faces) if row["split"] == "train")
    folder = tmp_path / "renamed" / "real"
    folder.mkdir(parents=True)
    (folder / "holiday.mp4").write_bytes(Path(seen["path"]).read_bytes())
    (folder / "ramp.mp4").write_bytes(faceless_clip.read_bytes())
    options = Options(resamples=20, engine="serial")
    with pytest.raises(LeakError, match="1 of 1 inputs"):
        evaluate({"one": detector}, tmp_path / "renamed", tmp_path / "out", small_config, options)
    kept = replace(options, leaks="keep")
    done = evaluate({"one": detector}, tmp_path / "renamed", tmp_path / "out", small_config, kept)
    coverage = done.results["models"]["one"]["coverage"]
    assert coverage["states"] == {"ok": 1, "no_face": 1}
    assert (coverage["inputs"], coverage["scored"], coverage["unscored"]) == (2, 1, {"real": 1, "fake": 0})
    assert done.results["models"]["one"]["levels"]["clip"]["count"] == 1


def test_crops_of_another_framing_are_refused(faces: Path, model: Path, tmp_path: Path, small_config: Config) -> None:
    loaded = Detector.load(model, "cpu").model
    wider = replace(loaded.card, faces=replace(loaded.card.faces, crop_scale=2.0, detector="yunet"))
    other = Detector(replace(loaded, card=wider))
    with pytest.raises(DataError, match=r"scale 1\.30.*2\.00.*mtcnn.*yunet.*--any-crops"):
        evaluate({"one": other}, faces, tmp_path / "out", small_config, Options())
    done = evaluate({"one": other}, faces, tmp_path / "out", small_config, Options(any_crops=True, resamples=20))
    assert "do not fit the model" in done.page.read_text()


def test_an_empty_split_and_a_wrong_one(detector: Detector, faces: Path, tmp_path: Path, small_config: Config) -> None:
    with pytest.raises(UsageError, match="unknown split 'tset'"):
        evaluate({"one": detector}, faces, tmp_path / "out", small_config, Options(split="tset"))


def test_the_same_model_twice(detector: Detector) -> None:
    with pytest.raises(UsageError, match="twice"):
        named([detector, detector])


def foreign(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_scores_of_others(tmp_path: Path) -> None:
    path = foreign(
        tmp_path / "s.parquet",
        media_id=["a", "a", "b", "c", "d"],
        label=[0, 0, 1, 1, 0],
        p_fake=[0.1, 0.2, 0.9, None, 0.6],
    )
    found = evaluate_scores(path, tmp_path / "out", 20).results["models"]["scores"]
    assert found["coverage"] == {
        "inputs": 4, "scored": 3, "unlabelled": 0, "unscored": {"real": 0, "fake": 1}, "share": 0.75,
        "states": {"ok": 3, "no_face": 1},
    }  # fmt: skip
    assert found["levels"]["clip"]["count"] == 3
    assert found["levels"]["clip"]["confusion"] == {"tn": 1, "fp": 1, "fn": 0, "tp": 1}


def test_one_class_is_undefined_and_said_so(tmp_path: Path) -> None:
    path = foreign(tmp_path / "s.parquet", media_id=["a", "b"], label=[1, 1], p_fake=[0.1, 0.9])
    done = evaluate_scores(path, tmp_path / "out", 20)
    metrics = done.results["models"]["scores"]["levels"]["clip"]["metrics"]
    assert (metrics["auc"], metrics["fpr"], metrics["recall"]) == (None, None, 0.5)
    assert "undefined" in done.page.read_text()
    assert "undefined" in (done.out / "summary.md").read_text()


def test_one_clip(tmp_path: Path) -> None:
    done = evaluate_scores(
        foreign(tmp_path / "s.parquet", media_id=["a"], label=[0], p_fake=[0.7]), tmp_path / "out", 20
    )
    found = done.results["models"]["scores"]["levels"]["clip"]
    assert found["metrics"]["fpr"] == 1.0
    assert set(found["intervals"].values()) == {None}


def test_inputs_without_any_score(tmp_path: Path) -> None:
    path = foreign(
        tmp_path / "s.parquet", media_id=["a", "b"], label=[0, 1], p_fake=pa.array([None, None], pa.float64())
    )
    done = evaluate_scores(path, tmp_path / "out", 20)
    found = done.results["models"]["scores"]
    assert found["coverage"]["share"] == 0.0
    assert set(found["levels"]["clip"]["metrics"].values()) == {None}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"media_id": ["a"], "label": pa.array([None], pa.int8()), "p_fake": [0.5]}, "no labels"),
        ({"media_id": ["a"], "label": [2], "p_fake": [0.5]}, "neither 0"),
        ({"media_id": ["a"], "label": [1], "p_fake": [3.5]}, "0..1"),
        ({"media_id": ["a", "a"], "label": [1, 0], "p_fake": [0.5, 0.5]}, "two labels"),
        ({"media_id": ["a"], "label": [1], "p_fake": [0.5], "crop": ["../x.png"]}, "outside"),
        ({"media_id": ["a"], "label": [1]}, "lacks the columns p_fake"),
    ],
)
def test_scores_that_cannot_be_measured(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_scores(foreign(tmp_path / "s.parquet", **columns), tmp_path / "out", 20)


def test_a_damaged_table(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_text("hello")
    with pytest.raises(DataError, match="damaged"):
        evaluate_scores(tmp_path / "s.parquet", tmp_path / "out", 20)


def test_only_its_own_pictures_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("holiday.png", "confusion_7.png"):
        (out / name).write_bytes(b"x")
    evaluate_scores(foreign(tmp_path / "s.parquet", media_id=["a"], label=[0], p_fake=[0.7]), out, 20)
    assert (out / "holiday.png").is_file()
    assert not (out / "confusion_7.png").exists()
    assert (out / "confusion_1.png").is_file()


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|\n"
    path = foreign(
        tmp_path / "s.parquet", media_id=["a", "b"], label=[0, 1], p_fake=[0.9, 0.1], model=[evil] * 2, name=[evil] * 2,
        method=[evil] * 2, dataset=[evil] * 2,
    )  # fmt: skip
    done = evaluate_scores(path, tmp_path / "out", 20)
    assert "<script" not in done.page.read_text()
    table = (done.out / "summary.md").read_text().splitlines()
    assert len(table) == 3


def test_two_models_are_compared(tmp_path: Path) -> None:
    ids = [str(i) for i in range(40)]
    label = [i % 2 for i in range(40)]
    good = [0.8 * y + 0.01 * (i % 10) for i, y in enumerate(label)]
    bad = [0.01 * (i * 7 % 40) for i in range(40)]
    path = foreign(
        tmp_path / "s.parquet", model=["good"] * 40 + ["bad"] * 40, media_id=ids * 2, label=label * 2, p_fake=good + bad
    )
    done = evaluate_scores(path, tmp_path / "out", 200)
    (compared,) = done.results["comparisons"]
    assert (compared["one"], compared["other"], compared["clips"]) == ("good", "bad", 40)
    assert compared["difference"] == pytest.approx(compared["auc"][0] - compared["auc"][1])
    assert compared["interval"][0] > 0
    assert compared["p_value"] < 0.05
