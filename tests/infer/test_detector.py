import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from dfpipe.config import InferConfig
from dfpipe.demo import clip_frames, write_clip
from dfpipe.errors import ConfigError, ModelFileError, ResourceError, UsageError
from dfpipe.infer.aggregate import AGGREGATES, logit
from dfpipe.infer.detector import Detector, find_model
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.ensemble import together
from dfpipe.infer.inputs import Upload
from dfpipe.infer.scorer import CPU_BATCH
from dfpipe.preprocess.facefinder import FaceFinder
from dfpipe.preprocess.manifest import read_inputs, read_manifest
from dfpipe.preprocess.readers import open_video
from dfpipe.train.dataset import CropDataset
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.models import FaceClassifier
from dfpipe.types import FaceBox, FaceCrop, Label, State, Verdict, VerdictKind


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


def judge(detector: Detector, path: Path | Upload) -> Verdict:
    """In this process, which saves starting another."""
    return next(iter(detector.judge_all([path], "serial")))


def test_held_out_clips_are_judged_right(detector: Detector, faces: Path) -> None:
    truth = {r["path"]: Label(r["label"]).name for r in read_inputs(faces) if r["split"] != "train"}
    verdicts = list(detector.judge_all(map(Path, truth), engine="serial"))
    assert {v.path: str(v.verdict) for v in verdicts} == truth
    for verdict in verdicts:
        assert verdict.p_fake is not None
        assert (verdict.frames_wanted, verdict.state) == (6, State.OK)
        assert len(verdict.scores) == 6
        assert verdict.media_sha256


def test_inference_sees_what_training_saw(detector: Detector, faces: Path) -> None:
    """The crop in the manifest and the one cut at inference get the same score, up to JPEG."""
    manifest = read_manifest(faces)
    row = 0
    path = next(r["path"] for r in read_inputs(faces) if r["media_id"] == manifest.columns["media_id"][row])
    (verdict,) = detector.judge_all([Path(path)], engine="serial")
    score = next(s for s in verdict.scores if s.frame_index == manifest.columns["frame_index"][row])
    stored = np.asarray(PillowImage.open(manifest.path(row)))
    (again,) = detector.score([FaceCrop(0, 0.0, 0, FaceBox(0, 0, 1, 1, 1), stored)])
    assert again.p_fake == pytest.approx(score.p_fake, abs=0.02)
    image, _ = CropDataset(manifest, [row], detector.model.card.image_size, "none")[(0, 0)]
    assert detector.model.network(image[None]).sigmoid().item() == pytest.approx(again.p_fake, abs=1e-5)


def test_batch_engine_and_company_change_nothing(model: Path, clip: Path, clips: Path) -> None:
    others = [clip, *sorted((clips / "fake").iterdir())[:2]]
    alone = Detector.load(model, "cpu").judge(clip)
    for batch in (1, 5):
        crowd = Detector.load(model, "cpu", InferConfig(batch_size=batch)).judge_all(others, engine="serial")
        verdict = next(v for v in crowd if v.path == str(clip))
        assert [s.p_fake for s in verdict.scores] == pytest.approx([s.p_fake for s in alone.scores], abs=1e-6)
        assert verdict.verdict == alone.verdict


def test_how_far_it_is_can_be_watched(clip: Path, tmp_path: Path) -> None:
    detector = Detector.load(embedded_model(), "cpu", frames=10)
    looked, told = tmp_path / "looked", []
    found = detector.examine([Upload(clip)], "serial", on_faces=lambda upload: told.append(upload), looked=looked)
    assert not looked.exists()
    assert not told
    next(found)
    assert looked.stat().st_size == 10
    assert told == [Upload(clip)]


def test_no_face_and_errors_have_no_number(detector: Detector, faceless_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    found = {
        Path(v.path).name: v for v in detector.judge_all([faceless_clip, tmp_path / "text.mp4", tmp_path / "gone.mp4"])
    }
    assert found["ramp.mp4"].verdict is VerdictKind.NO_FACE
    assert found["text.mp4"].verdict is VerdictKind.ERROR
    assert found["text.mp4"].state is State.UNSUPPORTED
    assert found["gone.mp4"].state is State.UNREADABLE
    assert {v.p_fake for v in found.values()} == {None}
    assert all(v.reason for v in found.values())


def test_two_people_get_a_verdict_each(detector: Detector, tmp_path: Path) -> None:
    pairs = zip(clip_frames(30, Label.REAL), clip_frames(30, Label.FAKE), strict=True)
    write_clip(tmp_path / "two.mp4", (np.hstack(pair) for pair in pairs))
    verdict = judge(detector, tmp_path / "two.mp4")
    assert verdict.verdict is VerdictKind.FAKE
    assert "1 of 2 people" in verdict.reason
    assert sorted(str(p.verdict) for p in verdict.people) == ["FAKE", "REAL"]
    (fake,) = [p for p in verdict.people if p.verdict is VerdictKind.FAKE]
    assert {s.track for s in verdict.segments} == {fake.track}


def test_stills_are_judged_too(detector: Detector, tmp_path: Path) -> None:
    PillowImage.fromarray(next(clip_frames(31, Label.FAKE))).save(tmp_path / "still.png")
    verdict = judge(detector, tmp_path / "still.png")
    assert (verdict.verdict, verdict.frames_wanted, verdict.segments) == (VerdictKind.FAKE, 1, ())


def test_crops_follow_the_model_file(model: Path, clip: Path) -> None:
    card = Detector.load(model, "cpu").model.card
    found = FaceFinder(card.faces, Detector.load(model, "cpu").limits).find(clip)
    assert found.frames_wanted == card.faces.frames == 6


def test_frames_can_be_fewer_or_more_than_in_training(model: Path, clip: Path) -> None:
    for frames in (1, 9):
        verdict = judge(Detector.load(model, "cpu", frames=frames), clip)
        assert (verdict.frames_wanted, verdict.rule.frames, len(verdict.scores)) == (frames, frames, frames)
    assert judge(Detector.load(model, "cpu"), clip).rule.frames == 6


def test_the_rule_is_part_of_the_verdict(model: Path, clip: Path) -> None:
    verdict = judge(Detector.load(model, "cpu", InferConfig(aggregate="trimmed_mean", min_frames=3)), clip)
    assert (verdict.rule.aggregate, dict(verdict.rule.parameters)) == ("trimmed_mean", {"trimmed": 0.1})
    assert verdict.rule.min_frames == 3
    assert judge(Detector.load(model, "cpu", frames=2), clip).rule.min_frames == 2  # nobody can be seen in more


def test_text_is_a_path_too(model: Path, clip: Path) -> None:
    import dfpipe

    verdict = dfpipe.Detector.load(str(model), "cpu").judge(str(clip))
    assert verdict.path == str(clip)
    assert verdict.verdict is VerdictKind.REAL
    with pytest.raises(AttributeError, match="Detektor"):
        _ = dfpipe.Detektor


def test_frames_that_the_caller_decoded_get_the_same_verdict(detector: Detector, clip: Path) -> None:
    of_file = judge(detector, clip)
    with open_video(clip) as video:
        frames = list(video.frames([s.frame_index for s in of_file.scores]))
    verdict = detector.judge_frames(np.stack([f.image for f in frames]), [f.time_s for f in frames])
    assert verdict.verdict is of_file.verdict
    assert [s.p_fake for s in verdict.scores] == pytest.approx([s.p_fake for s in of_file.scores], abs=1e-6)
    assert [s.time_s for s in verdict.scores] == [s.time_s for s in of_file.scores]
    assert (verdict.frames_wanted, verdict.kind, verdict.media_sha256 != "") == (6, "video", True)
    (still,) = [detector.judge_frames([frames[0].image])]
    assert (still.kind, still.frames_wanted) == ("image", 1)


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        ([], None),
        ([np.zeros((9, 9, 3), np.uint8)], [0.0, 1.0]),
        ([np.zeros((9, 9, 3))], None),
        ([np.zeros((9, 9), np.uint8)], None),
        ([np.zeros((9, 9, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], None),
    ],
)
def test_frames_of_a_wrong_form_are_refused(detector: Detector, frames: Any, times: Any) -> None:
    with pytest.raises(UsageError, match="frames"):
        detector.judge_frames(frames, times)


def test_frames_without_a_face_have_no_number(detector: Detector) -> None:
    verdict = detector.judge_frames(np.zeros((5, 200, 200, 3), np.uint8))
    assert (verdict.verdict, verdict.p_fake) == (VerdictKind.NO_FACE, None)


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_files_are_scored_on_one_thread_and_frames_on_all(model: Path, clip: Path, engine: str) -> None:
    """Beside processes that fill the other cores, more threads cost twice the time; the caller's setting comes back."""
    detector, seen = Detector.load(model, "cpu"), []
    detector.model.network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (judged,) = detector.examine([Upload(clip)], engine, workers=1)
        detector.score(judged.crops)
    finally:
        torch.set_num_threads(before)
    assert list(dict.fromkeys(seen)) == [1, 2]


def test_a_detector_may_be_loaded_later(model: Path, clip: Path, tmp_path: Path) -> None:
    """What it says of itself is known at once; what is wrong with its weights, or the device, before any verdict."""
    now, later = Detector.load(model, "cpu"), Detector.load(model, "cpu", later=True)
    assert (later.model.card, later.model.sha256) == (now.model.card, now.model.sha256)
    assert later.judge(clip).p_fake == now.judge(clip).p_fake
    assert later.model.network is later.model.network
    with pytest.raises(UsageError, match="cannot be used on this machine"):
        Detector.load(model, "cuda:99", later=True).judge(clip)
    changed = tmp_path / "model.safetensors"
    shutil.copy(model, changed)
    later = Detector.load(changed, "cpu", later=True)
    changed.write_bytes(model.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelFileError, match="changed"):
        later.judge(clip)


def test_out_of_memory_scores_fewer_at_once(model: Path, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a GPU would: more than two crops at once do not fit."""
    whole = Detector.load(model, "cpu")
    crops = FaceFinder(whole.model.card.faces, whole.limits).find(clip).crops
    small = Detector.load(model, "cpu")
    fits = 2

    def refuse(module: object, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    small.model.network.register_forward_pre_hook(refuse)
    expected = [s.p_fake for s in whole.score(crops)]
    assert [s.p_fake for s in small.score(crops)] == pytest.approx(expected, abs=1e-6)
    assert "2 crops at once" in caplog.text
    fits = 0
    with pytest.raises(ResourceError, match="--device cpu"):
        small.score(crops)


def test_a_cpu_scores_few_crops_at_once_as_convolutions_take_them(model: Path) -> None:
    detector = Detector.load(model, "cpu", InferConfig(batch_size=CPU_BATCH + 3))
    seen: list[tuple[int, bool]] = []

    def note(module: object, inputs: tuple[torch.Tensor]) -> None:
        seen.append((len(inputs[0]), inputs[0].is_contiguous(memory_format=torch.channels_last)))

    detector.model.network.register_forward_pre_hook(note)
    crop = FaceCrop(0, 0.0, 0, FaceBox(0, 0, 1, 1, 1), np.zeros((256, 256, 3), np.uint8))
    assert len(detector.score([crop] * (CPU_BATCH + 1))) == CPU_BATCH + 1
    assert seen == [(CPU_BATCH, True), (1, True)]


def test_what_is_in_a_zip_is_judged_like_a_file(detector: Detector, clip: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(clip, "inside.mp4")
        archive.writestr("empty.mp4", b"")
    verdicts = {
        v.path: v
        for v in detector.judge_all([Upload(tmp_path / "a.zip", name) for name in ("inside.mp4", "empty.mp4")])
    }
    inside, empty = verdicts[f"{tmp_path}/a.zip/inside.mp4"], verdicts[f"{tmp_path}/a.zip/empty.mp4"]
    alone = judge(detector, clip)
    assert (inside.p_fake, inside.media_sha256) == (pytest.approx(alone.p_fake, abs=1e-6), alone.media_sha256)
    assert (empty.verdict, empty.state) == (VerdictKind.ERROR, State.CORRUPT)


def test_several_models_are_joined(model: Path, tmp_path: Path, clip: Path) -> None:
    loaded = load_model(model)
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    network = FaceClassifier(loaded.card.architecture, loaded.card.image_size, loaded.card.mean, loaded.card.std)
    save_model(other, network.eval(), replace(loaded.card, name="other"))
    first, second = Detector.load(model, "cpu"), Detector.load(other, "cpu")
    both = together([first, second])
    crops = FaceFinder(first.model.card.faces, first.limits).find(clip).crops
    expected = [
        (logit(a.p_fake) + logit(b.p_fake)) / 2 for a, b in zip(first.score(crops), second.score(crops), strict=True)
    ]
    assert [logit(s.p_fake) for s in both.score(crops)] == pytest.approx(expected, abs=1e-3)
    assert judge(both, clip).model_name == f"{loaded.card.name} + other (mean-logit)"
    with pytest.raises(UsageError, match="twice"):
        together([first, first])


def test_which_model_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(None, tmp_path) == embedded_model()
    with monkeypatch.context() as patch:
        patch.setattr("dfpipe.infer.detector.embedded_model", lambda: None)
        with pytest.raises(ModelFileError, match="dfpipe train"):
            find_model(None, tmp_path)
    for name, age in (("a", 100), ("b", 300), ("c", 200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
        os.utime(tmp_path / name / "model.safetensors", (age, age))
    assert find_model(None, tmp_path) == tmp_path / "b" / "model.safetensors"
    assert find_model(tmp_path / "c", tmp_path) == tmp_path / "c" / "model.safetensors"
    assert find_model(Path("x.safetensors"), tmp_path) == Path("x.safetensors")


def test_unknown_rule_is_refused_before_anything_is_read(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"infer\.aggregate"):
        Detector.load(model, "cpu", InferConfig(aggregate="vote"))
    assert "mean_logit" in AGGREGATES


@pytest.mark.slow
def test_odd_files_get_one_state_each(detector: Detector, real_data: Path, tmp_path: Path) -> None:
    odd = [p for p in sorted((real_data / "odd").rglob("*")) if p.is_file()]
    verdicts = list(detector.judge_all(odd))
    assert sorted(v.path for v in verdicts) == sorted(map(str, odd))
    for v in verdicts:
        assert (v.p_fake is None) == (v.verdict in (VerdictKind.NO_FACE, VerdictKind.ERROR))
        assert (v.verdict is VerdictKind.ERROR) == v.state.failed
    shutil.rmtree(tmp_path)
