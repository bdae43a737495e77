"""Small trees in the publishers' own layouts."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from dfpipe.errors import SourceError
from dfpipe.preprocess.sources import scan
from dfpipe.types import Label


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def dfdc_part(folder: Path, entries: dict[str, object], present: Iterable[str]) -> None:
    touch(folder, present)
    (folder / "metadata.json").write_text(json.dumps(entries))


@pytest.fixture
def dfdc(tmp_path: Path) -> Path:
    fake, real = {"label": "FAKE", "split": "train", "original": "r.mp4"}, {"label": "REAL", "split": "train"}
    dfdc_part(tmp_path / "dfdc_train_part_0", {"f.mp4": fake, "r.mp4": real, "gone.mp4": fake}, ["f.mp4", "r.mp4"])
    dfdc_part(
        tmp_path / "dfdc_train_part_01" / "dfdc_train_part_1",
        {"g.mp4": {"label": "FAKE", "original": "absent.mp4"}, "h.mp4": {"label": "REAL", "original": None}},
        ["g.mp4", "h.mp4", "unlisted.mp4"],
    )
    return tmp_path


def test_dfdc_parts_also_nested_and_partial(dfdc: Path) -> None:
    source = scan(dfdc, "videos")
    assert source.layout == "DFDC"
    assert [(i.name, i.label, i.group, i.split) for i in source.items] == [
        ("dfdc_train_part_0/f.mp4", Label.FAKE, "r", None),
        ("dfdc_train_part_0/r.mp4", Label.REAL, "r", None),
        ("dfdc_train_part_1/g.mp4", Label.FAKE, "absent", None),
        ("dfdc_train_part_1/h.mp4", Label.REAL, "h", None),
    ]
    assert source.missing == ("dfdc_train_part_0/gone.mp4",)
    assert any("1 clips" in note and "no label" in note for note in source.notes)


def test_names_do_not_depend_on_where_one_points(dfdc: Path) -> None:
    part = scan(dfdc / "dfdc_train_part_0", "videos")
    assert [i.name for i in part.items] == [i.name for i in scan(dfdc, "videos").items][:2]


def test_a_list_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, ["secret.mp4"])
    dfdc_part(tmp_path / "part", {"../secret.mp4": {"label": "REAL"}, "a.mp4": {"label": "REAL"}}, ["a.mp4"])
    source = scan(tmp_path, "videos")
    assert [i.name for i in source.items] == ["part/a.mp4"]
    assert any("not understood" in note for note in source.notes)


def test_faceforensics(tmp_path: Path) -> None:
    root = tmp_path / "FaceForensics"
    touch(
        root,
        [
            "original_sequences/youtube/c40/videos/183.mp4",
            "original_sequences/youtube/c40/videos/253.mp4",
            "original_sequences/youtube/c40/videos/469.mp4",
            "original_sequences/actors/c40/videos/24__outside_talking.mp4",
            "manipulated_sequences/Deepfakes/c40/videos/183_253.mp4",
            "manipulated_sequences/FaceSwap/c40/videos/183_253.mp4",
            "manipulated_sequences/DeepFakeDetection/c40/videos/24_23__outside_talking__HASH.mp4",
            "manipulated_sequences/Deepfakes/c40/masks/183_253.mp4",
        ],
    )
    source = scan(root, "videos")
    found = {i.name.split("/", 1)[1]: (i.label, i.method, i.group) for i in source.items}
    assert found == {
        "youtube/c40/videos/183.mp4": (Label.REAL, "", "183+253"),
        "youtube/c40/videos/253.mp4": (Label.REAL, "", "183+253"),
        "youtube/c40/videos/469.mp4": (Label.REAL, "", "469"),
        "actors/c40/videos/24__outside_talking.mp4": (Label.REAL, "", "actor23+actor24"),
        "Deepfakes/c40/videos/183_253.mp4": (Label.FAKE, "Deepfakes", "183+253"),
        "FaceSwap/c40/videos/183_253.mp4": (Label.FAKE, "FaceSwap", "183+253"),
        "DeepFakeDetection/c40/videos/24_23__outside_talking__HASH.mp4": (
            Label.FAKE,
            "DeepFakeDetection",
            "actor23+actor24",
        ),
    }
    assert len({i.name for i in source.items}) == 7
    assert [i.name for i in scan(tmp_path, "videos").items] == [i.name for i in source.items]


@pytest.mark.parametrize(
    "names", [("Train", "Validation", "Test"), ("train", "valid", "test"), ("TRAIN", "val", "Test")]
)
def test_stills_with_splits(tmp_path: Path, names: tuple[str, str, str]) -> None:
    touch(tmp_path, [f"set/{split}/{label}/1.jpg" for split in names for label in ("Real", "fake")])
    source = scan(tmp_path, "images")
    assert Counter((i.split, i.label) for i in source.items) == Counter(
        {(s, label): 1 for s in ("train", "validation", "test") for label in Label}
    )
    assert len({i.group for i in source.items}) == 6  # equal names in a publisher's splits are no proof of a leak


def test_originals_from_a_list_are_groups(tmp_path: Path) -> None:
    touch(tmp_path, ["Train/Real/a.jpg", "Train/Fake/b.jpg"])
    (tmp_path / "metadata.csv").write_text(
        "image,label,original\nTrain/Real/a.jpg,real,x.mp4\nTrain/Fake/b.jpg,fake,x.mp4\n"
    )
    assert {i.group for i in scan(tmp_path, "images").items} == {"x"}


def test_flat_folders_pair_by_name(tmp_path: Path) -> None:
    touch(tmp_path, ["real/1.mp4", "fake/1.mp4", "fake/2.mov", "notes.txt", "other/3.mp4", ".hidden/real/4.mp4"])
    source = scan(tmp_path, "videos")
    assert {(i.name, i.label, i.group, i.split) for i in source.items} == {
        ("real/1.mp4", Label.REAL, "1", None),
        ("fake/1.mp4", Label.FAKE, "1", None),
        ("fake/2.mov", Label.FAKE, "2", None),
    }
    assert any("1 videos" in note for note in source.notes)


def test_the_named_folder_itself_may_carry_the_label(tmp_path: Path) -> None:
    touch(tmp_path, ["Fake/a.png"])
    assert [i.label for i in scan(tmp_path / "Fake", "images").items] == [Label.FAKE]


def test_nothing_usable_lists_the_layouts(tmp_path: Path) -> None:
    touch(tmp_path, ["a.mp4", "readme.txt"])
    with pytest.raises(SourceError, match=r"metadata\.json.*FaceForensics.*real and fake"):
        scan(tmp_path, "videos")
    with pytest.raises(SourceError, match="no such folder"):
        scan(tmp_path / "nowhere", "videos")
    with pytest.raises(SourceError, match="not a folder"):
        scan(tmp_path / "a.mp4", "videos")


def test_real_collections(real_data: Path) -> None:
    dfdc = scan(real_data / "dfdc", "videos")
    assert (len(dfdc.items), len(dfdc.missing)) == (3, 5)
    assert Counter(i.label for i in dfdc.items) == {Label.REAL: 1, Label.FAKE: 2}
    ff = scan(real_data / "faceforensics", "videos")
    assert Counter(i.label for i in ff.items) == {Label.REAL: 6, Label.FAKE: 16}
    assert {i.group for i in ff.items} == {"183+253", "469+481", "actor1", "actor7"}
    faces = scan(real_data / "dfdc_face_clips", "videos")
    assert Counter(i.label for i in faces.items) == {Label.REAL: 1, Label.FAKE: 19}
