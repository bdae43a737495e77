import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfpipe.config import Config, LimitsConfig
from dfpipe.errors import ConfigError
from dfpipe.infer.degradations import DEGRADATIONS, degrade_clip
from dfpipe.infer.detector import Detector
from dfpipe.infer.evaluate import Options, evaluate
from dfpipe.infer.scores import read_scores
from dfpipe.infer.stress import stress
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.headers import probe
from dfpipe.preprocess.readers import open_video
from dfpipe.types import Image

LIMITS = LimitsConfig()


@pytest.mark.parametrize("name", [name for name, told in DEGRADATIONS.items() if told.picture is not None])
def test_stronger_is_further_from_the_picture(name: str, portrait: Image) -> None:
    told = DEGRADATIONS[name]
    assert told.picture is not None
    gaps = []
    for strength in told.strengths:
        changed = told.picture(portrait, strength)
        assert changed.dtype == np.uint8
        if name == "downscale":
            assert changed.shape[:2] == tuple(round(side * strength) for side in portrait.shape[:2])
            gaps.append(1 / changed.shape[0])
        else:
            assert changed.shape == portrait.shape
            gaps.append(float(np.abs(changed.astype(float) - portrait).mean()))
        assert (told.picture(portrait, strength) == changed).all()
    assert gaps == sorted(gaps)
    assert gaps[0] > 0


def pictures(path: Path) -> np.ndarray:
    with open_video(path, "pyav", LIMITS) as video:
        return np.stack([frame.image for frame in video.frames(range(len(video.timeline.times)))]).astype(float)


def test_clips_are_really_encoded_again(clip: Path, tmp_path: Path) -> None:
    before, sizes, gaps = pictures(clip), [], []
    for crf in (18, 40):
        out = degrade_clip(clip, "crf", crf, tmp_path, LIMITS)
        after = pictures(out)
        assert after.shape == before.shape
        gaps.append(np.abs(after - before).mean())
        sizes.append(out.stat().st_size)
    assert gaps[0] < gaps[1] < 20
    assert sizes[1] < sizes[0] / 2


def test_fewer_frames_at_the_same_times(clip: Path, tmp_path: Path) -> None:
    before = probe(clip, LIMITS).timeline
    after = probe(degrade_clip(clip, "fps", 6, tmp_path, LIMITS), LIMITS).timeline
    assert len(before.times) == 48  # at 24 frames/s
    assert len(after.times) == 12
    assert after.times == pytest.approx(before.times[::4], abs=0.01)
    same = probe(degrade_clip(clip, "fps", 60, tmp_path, LIMITS), LIMITS).timeline  # never more than there are
    assert len(same.times) == 48


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


def test_clips_under_stress(
    detector: Detector, faces: Path, tmp_path: Path, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, strengths in (("crf", (45,)), ("blur", (30,))):
        monkeypatch.setitem(DEGRADATIONS, kind, replace(DEGRADATIONS[kind], strengths=strengths))
    options = Options(resamples=20, engine="serial", limit=2)
    done = stress(detector, faces, tmp_path / "out", small_config, options, ["crf", "blur"])
    none, crf, blur = done.results["conditions"]
    assert (none["change"], crf["strength"], blur["strength"]) == ("none", 45, 30)
    assert none["inputs"] == crf["inputs"] == blur["inputs"] == 2
    assert none["share"] == 1.0
    assert blur["share"] < 1.0  # no face can be found behind such a blur: counted, not scored
    assert json.loads((done.out / "stress.json").read_text()) == json.loads(json.dumps(done.results))
    page = done.page.read_text()
    for row in (none, crf):
        assert f"{row['metrics']['auc']:.3f}" in page
    assert (done.out / "stress_crf.png").is_file()
    assert len((done.out / "stress.md").read_text().splitlines()) == 5
    # Without any change the scores are those of an evaluation, up to the JPEG of its crops.
    plain = evaluate({"m": detector}, faces, tmp_path / "plain", small_config, Options(resamples=20))
    expected = read_scores(plain.out / "scores.parquet").columns
    means = {
        m: np.mean([p for p, k in zip(expected["p_fake"], expected["media_id"], strict=True) if k == m])
        for m in set(expected["media_id"])
    }
    table = read_scores(done.out / "stress.parquet").of("none").columns
    for media_id in set(table["media_id"]):
        ours = np.mean([p for p, k in zip(table["p_fake"], table["media_id"], strict=True) if k == media_id])
        assert ours == pytest.approx(means[media_id], abs=0.05)


def test_crops_are_changed_as_they_are_and_never_encoded_as_clips(
    detector: Detector, faces: Path, tmp_path: Path, small_config: Config
) -> None:
    from dfpipe.preprocess.manifest import read_manifest

    manifest = read_manifest(faces)
    for row in range(0, len(manifest), 6):
        label = ("real", "fake")[manifest.columns["label"][row]]
        path = tmp_path / "stills" / label / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest.path(row).read_bytes())
    settings = small_config.with_preprocess(stills="as-is")
    extract([], [tmp_path / "stills"], tmp_path / "faces", settings, engine="serial")
    options = Options(split="all", resamples=20, engine="serial", limit=4, any_crops=True)
    done = stress(detector, tmp_path / "faces", tmp_path / "out", small_config, options, ["crf", "jpeg"])
    assert {row["change"] for row in done.results["conditions"]} == {"none", "jpeg"}
    assert {row["count"] for row in done.results["conditions"]} == {4}


def test_unknown_degradation(detector: Detector, faces: Path, tmp_path: Path, small_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'blur'.*crf"):
        stress(detector, faces, tmp_path / "out", small_config, Options(), ["blurr"])
