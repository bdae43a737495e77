from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from dfpipe.config import Config, FacesConfig, HeadConfig
from dfpipe.errors import ConfigError, UsageError
from dfpipe.infer.detector import Detector
from dfpipe.infer.ensemble import check_members, fit_stack, join_scores, save_ensemble
from dfpipe.infer.evaluate import Options, evaluate
from dfpipe.infer.scores import SCHEMA, Scores, read_scores
from dfpipe.train.card import ModelCard, read_card
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.models import FaceClassifier
from dfpipe.train.provenance import overlap, trained_on
from dfpipe.types import FaceBox, FaceCrop

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def small(path: Path, size: int, **changes: object) -> Detector:
    """An untrained network with a last layer that answers differently from face to face."""
    import torch

    torch.manual_seed(size)
    network = FaceClassifier("mobilenetv3_small_050", size, MEAN, STD, HeadConfig())
    torch.nn.init.normal_(network.head.output.weight)
    faces = FacesConfig(crop_size=96)
    card = replace(ModelCard(path.stem, "mobilenetv3_small_050", size, MEAN, STD, faces), **changes)
    save_model(path, network.eval(), card)
    return Detector.load(path, "cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Detector]:
    folder = tmp_path_factory.mktemp("members")
    line = {"method": "platt", "scale": 0.5, "offset": 0.25}
    return {"a": small(folder / "a.safetensors", 48), "b": small(folder / "b.safetensors", 64, calibration=line)}


def test_of_fine_tuned_members_every_training_is_known(pair: dict[str, Detector], tmp_path: Path) -> None:
    seen = {"once": trained_on(["a: 1"]), "twice": [trained_on(["a: 2"]), trained_on(["a: 3"])]}
    members = {n: small(tmp_path / f"{n}.safetensors", 48, data={"trained_on": told}) for n, told in seen.items()}
    save_ensemble(tmp_path / "e.safetensors", members, "both", "mean-logit", ([1.0, 1.0], 0.0))
    data = read_card(tmp_path / "e.safetensors").data
    assert overlap(data, {"groups": ["a: 1", "a: 2", "a: 3", "a: 4"]}) == ["a: 1", "a: 2", "a: 3"]


@pytest.fixture(scope="module")
def crops() -> list[FaceCrop]:
    rng = np.random.default_rng(0)
    box = FaceBox(0, 0, 1, 1, 1)
    return [FaceCrop(i, 0.0, 0, box, rng.integers(0, 255, (96, 96, 3), np.uint8)) for i in range(5)]


def test_one_file_says_what_the_members_say_together(
    pair: dict[str, Detector], crops: list[FaceCrop], tmp_path: Path
) -> None:
    p = np.array([[score.p_fake for score in detector.score(crops)] for detector in pair.values()])
    assert np.ptp(p) > 0.01
    expected = {
        "mean-prob": p.mean(axis=0),
        "mean-logit": expit(logit(p).mean(axis=0)),
        "stacked": expit(2.0 * logit(p[0]) - 1.0 * logit(p[1]) + 0.5),
    }
    for how, values in expected.items():
        path = tmp_path / f"{how}.safetensors"
        save_ensemble(path, pair, "both", how, ([2.0, -1.0], 0.5))
        found = [score.p_fake for score in Detector.load(path, "cpu").score(crops)]
        assert found == pytest.approx(values, abs=1e-5), how


def test_the_file_is_a_model_file_like_any_other(pair: dict[str, Detector], tmp_path: Path) -> None:
    save_ensemble(tmp_path / "e.safetensors", pair, "both", "mean-logit", ([1.0, 1.0], 0.0))
    card = load_model(tmp_path / "e.safetensors").card
    assert card.image_size == card.faces.crop_size == 96
    assert card.ensemble is not None
    assert [one["name"] for one in card.ensemble["members"]] == ["a", "b"]
    assert card.calibration is None


def test_what_cannot_be_joined(pair: dict[str, Detector], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mean-logit"):
        check_members(pair, "vote")
    with pytest.raises(UsageError, match="at least two"):
        check_members({"a": pair["a"]}, "mean-prob")
    other = small(tmp_path / "c.safetensors", 48, faces=FacesConfig(crop_size=96, crop_scale=2.0))
    with pytest.raises(UsageError, match="cut otherwise"):
        check_members({"a": pair["a"], "c": other}, "mean-prob")
    save_ensemble(tmp_path / "e.safetensors", pair, "both", "mean-logit", ([1.0, 1.0], 0.0))
    with pytest.raises(UsageError, match="ensemble already"):
        check_members({"a": pair["a"], "e": Detector.load(tmp_path / "e.safetensors", "cpu")}, "mean-prob")


def table(model: str, media: list[str], labels: list[int], p: list[float | None]) -> Scores:
    columns = {name: [None] * len(media) for name in SCHEMA.names}
    faces = {"frame_index": [None if x is None else 0 for x in p], "track": [None if x is None else 0 for x in p]}
    return Scores({**columns, "model": [model] * len(media), "media_id": media, "label": labels, "p_fake": p, **faces})


def test_scores_are_joined_face_by_face() -> None:
    from dfpipe.infer.scores import joined

    both = joined(
        [table("a", ["x", "y", "z"], [0, 1, 1], [0.2, 0.8, 0.5]), table("b", ["y", "x"], [1, 0], [0.6, 0.4])], {}
    )
    found = join_scores(both, ["a", "b"], "e", "mean-prob", ([1.0, 1.0], 0.0))
    assert found.columns["p_fake"] == [pytest.approx(0.3), pytest.approx(0.7), None]
    assert found.models == ["e"]


def test_a_stack_leans_on_the_better_member() -> None:
    from dfpipe.infer.scores import joined

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    good, noise = expit(2.0 * (2 * labels - 1) + rng.normal(size=2000)), expit(rng.normal(size=2000))
    media = [str(i) for i in range(2000)]
    both = joined(
        [table("a", media, labels.tolist(), noise.tolist()), table("b", media, labels.tolist(), good.tolist())], {}
    )
    (of_noise, of_good), _ = fit_stack(both, ["a", "b"])
    assert of_good > 1
    assert abs(of_noise) < of_good / 10


def test_evaluated_beside_its_members(model: Path, faces: Path, tmp_path: Path, small_config: Config) -> None:
    first = Detector.load(model, "cpu")
    card = replace(first.model.card, name="second", calibration={"method": "platt", "scale": 0.5, "offset": 1.0})
    save_model(tmp_path / "second.safetensors", first.model.network, card)
    pair = {"first": first, "second": Detector.load(tmp_path / "second.safetensors", "cpu")}
    done = evaluate(pair, faces, tmp_path / "out", small_config, Options(resamples=20, ensemble="stacked"))
    assert list(done.results["models"]) == ["first", "second", "ensemble stacked"]
    assert len(done.results["comparisons"]) == 3
    again = Detector.load(done.out / "ensemble.safetensors", "cpu")
    alone = evaluate({"alone": again}, faces, tmp_path / "alone", small_config, Options(resamples=20))
    ours = read_scores(done.out / "scores.parquet").of("ensemble stacked").columns["p_fake"]
    assert read_scores(alone.out / "scores.parquet").columns["p_fake"] == pytest.approx(ours, abs=1e-5)
    with pytest.raises(UsageError, match="--split test"):
        evaluate(pair, faces, tmp_path / "no", small_config, Options("validation", 20, ensemble="stacked"))
