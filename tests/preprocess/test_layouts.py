"""Small trees in the publishers' own layouts, whole, partial and wrong."""

import csv
import io
import json
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfpipe.config import LimitsConfig
from dfpipe.errors import SourceError, TooLargeMedia
from dfpipe.preprocess import archives
from dfpipe.preprocess.groups import together
from dfpipe.preprocess.sources import Source, scan
from dfpipe.preprocess.splits import check_leaks
from dfpipe.types import Label

REAL, FAKE = Label.REAL, Label.FAKE


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def dump(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_zip(path: Path, entries: Mapping[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return path


def one(root: Path, kind: str) -> Source:
    """The only collection; its splits leak nothing and its names are unique."""
    (source,) = scan(root, kind)
    check_leaks([i.group for i in source.items], [i.split for i in source.items])
    assert len({i.name for i in source.items}) == len(source.items)
    return source


def noted(source: Source, *words: str) -> bool:
    return any(all(word in note for word in words) for note in source.notes)


# ---- DFDC ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dfdc(tmp_path: Path) -> Path:
    root = tmp_path / "dfdc"
    fake, real = {"label": "FAKE", "split": "train", "original": "r.mp4"}, {"label": "REAL", "split": "train"}
    touch(root, [f"dfdc_train_part_0/{f}.mp4" for f in "fr"])
    dump(root / "dfdc_train_part_0/metadata.json", {"f.mp4": fake, "r.mp4": real, "gone.mp4": fake})
    part = "dfdc_train_part_01/dfdc_train_part_1"
    touch(root, [f"{part}/{f}.mp4" for f in ("g", "h", "unlisted")])
    dump(
        root / part / "metadata.json",
        {"g.mp4": {"label": "FAKE", "original": "absent.mp4"}, "h.mp4": {"label": "REAL", "original": None}},
    )
    return root


def test_dfdc_parts_also_nested_and_partial(dfdc: Path) -> None:
    source = one(dfdc, "videos")
    assert (source.layout, source.dataset, source.kind, source.root) == ("DFDC", "dfdc", "videos", dfdc)
    assert [(i.name, i.label, i.group, i.split) for i in source.items] == [
        ("dfdc_train_part_0/f.mp4", FAKE, "r", None),
        ("dfdc_train_part_0/r.mp4", REAL, "r", None),
        ("dfdc_train_part_1/g.mp4", FAKE, "absent", None),
        ("dfdc_train_part_1/h.mp4", REAL, "h", None),
    ]
    assert all(i.path.is_file() for i in source.items)
    assert source.missing == ("dfdc_train_part_0/gone.mp4",)
    assert noted(source, "1 clips", "no label")
    assert len(source.notes) == 1  # the unlisted clip is told of once


def test_names_do_not_depend_on_where_one_points(dfdc: Path) -> None:
    part = one(dfdc / "dfdc_train_part_0", "videos")
    assert [i.name for i in part.items] == [i.name for i in one(dfdc, "videos").items][:2]
    assert part.items == one(dfdc.parent, "videos").items[:2]


@pytest.mark.parametrize("name", ["../secret.mp4", "/secret.mp4", "sub/secret.mp4", "..", "", "a\0.mp4"])
def test_a_dfdc_list_cannot_point_outside_its_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, ["secret.mp4", "part/sub/secret.mp4", "part/a.mp4"])
    dump(tmp_path / "part/metadata.json", {name: {"label": "REAL"}, "a.mp4": {"label": "REAL"}})
    source = one(tmp_path, "videos")
    assert [i.name for i in source.items] == ["part/a.mp4"]
    assert not source.missing
    assert noted(source, "1 entries", "not understood")


def test_an_unknown_dfdc_label_is_noted(tmp_path: Path) -> None:
    touch(tmp_path, ["part/a.mp4", "part/b.mp4"])
    dump(tmp_path / "part/metadata.json", {"a.mp4": {"label": "REAL"}, "b.mp4": {"label": ["odd"]}})
    assert noted(one(tmp_path, "videos"), "1 entries", "part/b.mp4")


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"a.mp4": NUL}', "\xff"])
@pytest.mark.parametrize("name", ["metadata.json", "dataset.json"])
def test_a_broken_list_is_named(tmp_path: Path, text: str, name: str) -> None:
    touch(tmp_path, ["a.mp4"])
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match=rf"{name} is not valid JSON.*expected videos as"):
        scan(tmp_path, "videos")


@pytest.mark.parametrize("content", [[], {"a.mp4": "REAL"}, {"a.mp4": {"mark": "REAL"}}, 3, None])
def test_json_of_another_kind_is_no_list(tmp_path: Path, content: object) -> None:
    touch(tmp_path, ["real/a.mp4"])
    for name in ("metadata.json", "dataset.json", "real/metadata.json"):
        dump(tmp_path / name, content)
    source = one(tmp_path, "videos")
    assert [i.name for i in source.items] == ["real/a.mp4"]
    assert not source.notes


@pytest.mark.parametrize("below", ["", "videos/", "test/"])
def test_dfdc_test_set(tmp_path: Path, below: str) -> None:
    root = tmp_path / "DFDC"
    touch(root, [f"{below}{f}.mp4" for f in "abc"])
    (root / "labels.csv").write_text(
        "\ufefffilename,label\r\na.mp4,1\r\nb.mp4,0\r\ngone.mp4,1\r\nc.mp4,maybe\r\n../a.mp4,0\r\n"
    )
    source = one(root, "videos")
    assert (source.layout, source.dataset) == ("DFDC test", "dfdc_test")
    assert [(i.name, i.label, i.group, i.split) for i in source.items] == [
        ("a.mp4", FAKE, "a", "test"),
        ("b.mp4", REAL, "b", "test"),
    ]
    assert source.missing == ("gone.mp4",)
    assert noted(source, "2 entries", "c.mp4: 'maybe'", "../a.mp4")
    assert noted(source, "1 videos", "no known layout")


def test_dfdc_test_set_with_two_labels_for_a_clip(tmp_path: Path) -> None:
    touch(tmp_path, ["a.mp4", "b.mp4"])
    (tmp_path / "labels.csv").write_text("filename,label\na.mp4,1\nb.mp4,0\na.mp4,0\nb.mp4,0\n")
    source = one(tmp_path, "videos")
    assert [i.name for i in source.items] == ["b.mp4"]
    assert noted(source, "two labels", "a.mp4")


def test_dfdc_preview(tmp_path: Path) -> None:
    root = tmp_path / "preview"
    names = {
        "original_videos/10/10_A_001.mp4": ("real", "train"),
        "method_A/10/11_10_A_001_c/11_10_A_001.mp4": ("fake", "train"),
        "method_B/11_10_A_001.mp4": ("fake", "train"),
        "original_videos/20/20_A_001.mp4": ("real", "test"),
        "method_A/21_20_A_001.mp4": ("fake", "test"),
    }
    touch(root, names)
    entries = {name: {"label": label, "set": split} for name, (label, split) in names.items()}
    bad = {"../x.mp4": {"label": "real", "set": "train"}, "/x.mp4": {"label": "real", "set": "train"}}
    odd = {"method_A/o.mp4": {"label": "fake", "set": "holiday"}, "method_A/gone.mp4": {"label": "fake", "set": "test"}}
    dump(root / "dataset.json", {**entries, **bad, **odd})
    source = one(tmp_path, "videos")
    assert (source.layout, source.dataset, source.root) == ("DFDC preview", "dfdc_preview", root)
    assert {i.name: (i.label, i.method, i.group, i.split) for i in source.items} == {
        "original_videos/10/10_A_001.mp4": (REAL, "", "10_A_001", "train"),
        "method_A/10/11_10_A_001_c/11_10_A_001.mp4": (FAKE, "method_A", "10_A_001", "train"),
        "method_B/11_10_A_001.mp4": (FAKE, "method_B", "10_A_001", "train"),
        "original_videos/20/20_A_001.mp4": (REAL, "", "20_A_001", "test"),
        "method_A/21_20_A_001.mp4": (FAKE, "method_A", "20_A_001", "test"),
    }
    assert source.missing == ("method_A/gone.mp4",)
    assert noted(source, "3 entries", "not understood")


# ---- FaceForensics++ -----------------------------------------------------------------------------------------------

FF = [
    "original_sequences/youtube/c40/videos/183.mp4",
    "original_sequences/youtube/c40/videos/253.mp4",
    "original_sequences/youtube/c40/videos/469.mp4",
    "original_sequences/actors/c40/videos/24__outside_talking.mp4",
    "manipulated_sequences/Deepfakes/c40/videos/183_253.mp4",
    "manipulated_sequences/FaceSwap/c40/videos/183_253.mp4",
    "manipulated_sequences/DeepFakeDetection/c40/videos/24_23__outside_talking__HASH.mp4",
    "manipulated_sequences/Deepfakes/c40/masks/183_253.mp4",
]


def test_faceforensics(tmp_path: Path) -> None:
    root = tmp_path / "FaceForensics"
    touch(root, FF)
    source = one(root, "videos")
    assert (source.layout, source.dataset) == ("FaceForensics++", "faceforensics")
    found = {i.name.split("/", 1)[1]: (i.label, i.method, i.group) for i in source.items}
    assert found == {
        "youtube/c40/videos/183.mp4": (REAL, "", "183+253"),
        "youtube/c40/videos/253.mp4": (REAL, "", "183+253"),
        "youtube/c40/videos/469.mp4": (REAL, "", "469"),
        "actors/c40/videos/24__outside_talking.mp4": (REAL, "", "actor23+actor24"),
        "Deepfakes/c40/videos/183_253.mp4": (FAKE, "Deepfakes", "183+253"),
        "FaceSwap/c40/videos/183_253.mp4": (FAKE, "FaceSwap", "183+253"),
        "DeepFakeDetection/c40/videos/24_23__outside_talking__HASH.mp4": (FAKE, "DeepFakeDetection", "actor23+actor24"),
    }
    assert not source.notes
    assert [i.name for i in one(tmp_path, "videos").items] == [i.name for i in source.items]
    part = one(root / "manipulated_sequences", "videos")
    assert {i.name for i in part.items} == {i.name for i in source.items if i.label is FAKE}
    assert noted(part, "part of a collection")


@pytest.mark.parametrize("where", ["", "splits/"])
def test_faceforensics_pair_lists_are_the_splits(tmp_path: Path, where: str) -> None:
    touch(tmp_path, [*FF, *(name.replace("c40", "raw") for name in FF)])
    dump(tmp_path / f"{where}train.json", [["183", "253"]])
    dump(tmp_path / f"{where}test.json", [["469", "481"]])
    source = one(tmp_path, "videos")
    assert len(source.items) == 14
    assert {(i.group, i.split) for i in source.items} == {
        ("183+253", "train"),
        ("469+481", "test"),
        ("actor23+actor24", None),
    }


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1, 2]", '[["1", "2", "3"]]'])
def test_a_broken_pair_list_is_noted(tmp_path: Path, content: str) -> None:
    touch(tmp_path, FF)
    (tmp_path / "val.json").write_text(content)
    source = one(tmp_path, "videos")
    assert len(source.items) == 7
    assert noted(source, "val.json", "validation is not the publisher's")


def test_contradicting_pair_lists_leak_nothing(tmp_path: Path) -> None:
    touch(tmp_path, FF)
    dump(tmp_path / "train.json", [["183", "999"]])
    dump(tmp_path / "test.json", [["253", "998"]])
    source = one(tmp_path, "videos")
    assert {i.split for i in source.items if "183" in i.group} == {"test"}
    assert noted(source, "stricter split")


def test_together_joins_through_others() -> None:
    assert together([["a", "b"], ["c"], ["b", "d"]]) == {"a": "a+b+d", "b": "a+b+d", "d": "a+b+d", "c": "c"}
    chain = together([[str(i), str(i + 1)] for i in range(20_000)])
    assert len(set(chain.values())) == 1


# ---- Celeb-DF ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "videos/"])
@pytest.mark.parametrize("youtube", ["YouTube-real", "Youtube-real"])
def test_celebdf(tmp_path: Path, below: str, youtube: str) -> None:
    root = tmp_path / "Celeb-DF-v2"
    real = [f"Celeb-real/{below}id0_0000.mp4", f"Celeb-real/{below}id0_0001.mp4"]
    fake = [f"Celeb-synthesis/{below}{name}.mp4" for name in ("id0_id1_0000", "id0_id2_0000", "id0_id1_0001")]
    touch(root, [*real, *fake, f"{youtube}/{below}00170.mp4"])
    listed = f"1 {youtube}/00170.mp4\r\n1 Celeb-real/id0_0000.mp4\r\n0 Celeb-synthesis/id0_id1_0000.mp4\r\n"
    (root / "List_of_testing_videos.txt").write_text(
        listed + "0 Celeb-synthesis/id9_id8_0000.mp4\r\n\r\n2 what.mp4\r\n"
    )
    source = one(tmp_path, "videos")
    assert (source.layout, source.dataset, source.root) == ("Celeb-DF", "celebdf", root)
    assert {i.name: (i.label, i.group, i.split) for i in source.items} == {
        "Celeb-real/id0_0000.mp4": (REAL, "id0_0000", "test"),
        "Celeb-real/id0_0001.mp4": (REAL, "id0_0001", None),
        "Celeb-synthesis/id0_id1_0000.mp4": (FAKE, "id0_0000", "test"),
        "Celeb-synthesis/id0_id2_0000.mp4": (FAKE, "id0_0000", "test"),  # not listed, but of a listed original
        "Celeb-synthesis/id0_id1_0001.mp4": (FAKE, "id0_0001", None),
        "YouTube-real/00170.mp4": (REAL, "00170", "test"),
    }
    assert source.missing == ("Celeb-synthesis/id9_id8_0000.mp4",)
    assert noted(source, "1 inputs share their original", "id0_id2_0000")
    assert noted(source, "1 lines", "2 what.mp4")
    assert not noted(source, "contradict")


def test_a_test_list_of_inverse_polarity_is_noted(tmp_path: Path) -> None:
    touch(tmp_path, ["Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4"])
    (tmp_path / "List_of_testing_videos.txt").write_text(
        "0 Celeb-real/id0_0000.mp4\n1 Celeb-synthesis/id0_id1_0000.mp4"
    )
    source = one(tmp_path, "videos")
    assert [i.label for i in source.items] == [REAL, FAKE]
    assert noted(source, "2 labels", "contradict the folder")


def test_celebdf_pointed_at_one_of_its_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["Celeb-synthesis/id0_id1_0000.mp4"])
    source = one(tmp_path / "Celeb-synthesis", "videos")
    assert [(i.name, i.label, i.group) for i in source.items] == [
        ("Celeb-synthesis/id0_id1_0000.mp4", FAKE, "id0_0000")
    ]
    assert noted(source, "part of a collection")


# ---- DeepfakeBench -------------------------------------------------------------------------------------------------


def bench_videos(label: str, folder: str, names: Sequence[str], frames: int = 2) -> dict[str, Any]:
    return {n: {"label": label, "frames": [f"{folder}\\{n}\\{i:03}.png" for i in range(frames)]} for n in names}


def bench_touch(root: Path, *videos: Mapping[str, Any]) -> None:
    touch(root, [frame.replace("\\", "/") for v in videos for entry in v.values() for frame in entry["frames"]])


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """FaceForensics++ with compressions; lists and frames in sister folders, as DeepfakeBench has them."""
    real = bench_videos("FF-real", "FaceForensics++\\original_sequences\\youtube\\c23\\frames", ["000", "003", "005"])
    fake = bench_videos(
        "FF-DF", "FaceForensics++\\manipulated_sequences\\Deepfakes\\c23\\frames", ["000_003", "005_010"]
    )
    bench_touch(tmp_path / "datasets/rgb", real, {"000_003": fake["000_003"]})
    (tmp_path / "datasets/rgb/FaceForensics++/original_sequences/youtube/c23/frames/003/001.png").unlink()
    test = {"005": real.pop("005")}
    content = {
        "FF-DF": {
            "FF-real": {"train": {"c23": real}, "val": {}, "test": {"c23": test}},
            "FF-DF": {"train": {"c23": fake}, "val": {}, "test": {}},
        }
    }
    dump(tmp_path / "preprocessing/dataset_json/FF-DF.json", content)
    return tmp_path


def test_deepfakebench(bench: Path) -> None:
    source = one(bench, "images")
    assert (source.layout, source.dataset, source.kind) == ("DeepfakeBench list", "FF-DF", "images")
    assert {i.name: (i.label, i.method, i.group, i.split, i.members) for i in source.items} == {
        "FF-real/c23/000": (REAL, "", "000+003", "train", ("000.png", "001.png")),
        "FF-real/c23/003": (REAL, "", "000+003", "train", ("000.png",)),
        "FF-real/c23/005": (REAL, "", "005+010", "test", ("000.png", "001.png")),
        "FF-DF/c23/000_003": (FAKE, "FF-DF", "000+003", "train", ("000.png", "001.png")),
    }
    assert all((i.path / member).is_file() for i in source.items for member in i.members)
    assert source.missing == ("FF-DF/FF-DF/c23/005_010",)
    assert noted(source, "1 frames")


def test_a_frame_belongs_to_one_list(bench: Path) -> None:
    lists_folder = bench / "preprocessing/dataset_json"
    again = json.loads((lists_folder / "FF-DF.json").read_text())["FF-DF"]["FF-real"]
    swaps = bench_videos("FF-FS", "FaceForensics++/manipulated_sequences/FaceSwap/c23/frames", ["000_003"])
    bench_touch(bench / "datasets/rgb", swaps)
    dump(lists_folder / "FF-FS.json", {"FF-FS": {"FF-real": again, "FF-FS": {"train": {"c23": swaps}}}})
    first, second = scan(bench, "images")
    assert [len(first.items), len(second.items)] == [4, 1]
    assert noted(second, "3 videos", "list before it")


def test_a_video_in_several_splits_is_tested_only(tmp_path: Path) -> None:
    """DeepfakeBench lists all of Celeb-DF as train and its test clips once more as test and val."""
    real = bench_videos("CelebDFv2_real", "Celeb-DF-v2/Celeb-real/frames", ["id0_0000", "id0_0001"])
    fake = bench_videos("CelebDFv2_fake", "Celeb-DF-v2/Celeb-synthesis/frames", ["id0_id1_0000", "id0_id2_0001"])
    bench_touch(tmp_path, real, fake)
    listed = {"id0_0000": real["id0_0000"]}
    content = {
        "Celeb-DF-v2": {
            "CelebDFv2_real": {"train": real, "val": listed, "test": listed},
            "CelebDFv2_fake": {"train": fake, "val": {"label": "x", "frames": ["y"]}, "test": {}},
        }
    }
    dump(tmp_path / "Celeb-DF-v2.json", content)
    source = one(tmp_path, "images")
    assert {i.name: (i.group, i.split) for i in source.items} == {
        "CelebDFv2_real/id0_0000": ("id0_0000", "test"),
        "CelebDFv2_real/id0_0001": ("id0_0001", "train"),
        "CelebDFv2_fake/id0_id1_0000": ("id0_0000", "test"),
        "CelebDFv2_fake/id0_id2_0001": ("id0_0001", "train"),
    }
    assert noted(source, "2 entries", "repeat a video")
    assert noted(source, "2 entries", "not understood")


@pytest.mark.parametrize("front", ["deepfakes_detection_datasets/DF40/", "/home/author/DF40/", "D:\\sets\\", "./"])
def test_leading_folders_that_all_frames_share_may_be_absent(tmp_path: Path, front: str) -> None:
    fake = bench_videos("blendface_Fake", "blendface/frames", ["000_003"])
    other = bench_videos("simswap_Fake", "simswap/frames", ["000_003"])
    bench_touch(tmp_path, fake)  # simswap is not there, and blendface's frames do not stand in for it
    for videos in (fake, other):
        for entry in videos.values():
            entry["frames"] = [front + frame for frame in entry["frames"]]
    path = dump(tmp_path / "x.json", {"DF40": {"blendface_Fake": {"test": fake}, "simswap_Fake": {"test": other}}})
    for root in (path, tmp_path):
        source = one(root, "images")
        assert [(i.name, i.label, i.method) for i in source.items] == [
            ("blendface_Fake/000_003", FAKE, "blendface_Fake")
        ]
        assert source.missing == ("DF40/simswap_Fake/000_003",)


def test_frames_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["secret/0.png", "set/a/0.png"])
    videos = {"a": {"label": "x_Real", "frames": ["a/0.png"]}, "b": {"label": "x_Real", "frames": ["../secret/0.png"]}}
    dump(tmp_path / "set/x.json", {"x": {"x_Real": {"train": videos}}})
    source = one(tmp_path, "images")
    assert [i.name for i in source.items] == ["x_Real/a"]
    assert noted(source, "x/x_Real/train/b", "not understood")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"a": {"b": {"train": {"v": {"frames": 3}}}}}', '{"a": {"b": 1}}'])
def test_a_broken_deepfakebench_list(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"x\.json is (not valid JSON|no DeepfakeBench list)"):
        scan(path, "images")
    touch(tmp_path, ["real/a.png"])
    assert len(one(tmp_path, "images").items) == 1


def test_a_cut_deepfakebench_list_in_a_folder_is_noted(bench: Path) -> None:
    path = bench / "preprocessing/dataset_json/FF-DF.json"
    path.write_text(path.read_text()[:-5])
    touch(bench, ["real/a.png"])
    assert noted(one(bench, "images"), "FF-DF.json is not valid JSON")


# ---- folders and archives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("Train", "Validation", "Test"), ("train", "valid", "test"), ("TRAIN", "val", "Test")]
)
@pytest.mark.parametrize("order", ["set/{split}/{label}/1.jpg", "set/{label}/{split}/1.jpg"])
def test_stills_with_splits(tmp_path: Path, names: tuple[str, str, str], order: str) -> None:
    files = [order.format(split=split, label=label) for split in names for label in ("Real", "fake")]
    touch(tmp_path, files)
    archive = write_zip(tmp_path / "z" / "set.zip", dict.fromkeys(files, ""))
    for source in (one(tmp_path / "set", "images"), one(archive, "images")):
        assert source.dataset == "set"
        assert Counter((i.split, i.label) for i in source.items) == Counter(
            {(s, label): 1 for s in ("train", "validation", "test") for label in Label}
        )
        assert len({i.group for i in source.items}) == 6  # equal names in a publisher's splits are no proof of a leak


METADATA = "\ufeffimage,label,original\r\nTrain/Real/a.jpg,real,x.mp4\r\nTrain/Fake/b.jpg,real,x.mp4\r\n"


def test_originals_from_a_list_are_groups(tmp_path: Path) -> None:
    touch(tmp_path, ["d/Train/Real/a.jpg", "d/Train/Fake/b.jpg"])
    (tmp_path / "d/metadata.csv").write_text(METADATA)
    source = one(tmp_path, "images")
    assert {i.group for i in source.items} == {"x"}
    assert noted(source, "1 labels", "contradict", "Train/Fake/b.jpg")


def test_an_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    entries = {"d/Train/Real/a.jpg": "A", "d/Train/Fake/b.jpg": "B", "d/metadata.csv": METADATA, "top.jpg": "C"}
    path = write_zip(
        tmp_path / "set.zip", {**entries, "__MACOSX/d/Train/Real/._a.jpg": "", "d/Train/Real/clip.mp4": ""}
    )
    source = one(tmp_path, "images")
    assert (source.layout, source.dataset, source.root) == ("zip of stills", "set", path)
    assert [(i.path, i.name, i.members, i.label, i.group, i.split) for i in source.items] == [
        (path, "d/Train/Fake/b.jpg", ("d/Train/Fake/b.jpg",), FAKE, "x", "train"),
        (path, "d/Train/Real/a.jpg", ("d/Train/Real/a.jpg",), REAL, "x", "train"),
    ]
    assert noted(source, "1 labels", "contradict")
    assert noted(source, "1 images", "no folder named real or fake")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SourceError, match="clips in archives are not read"):
        scan(path, "videos")


def test_dangerous_entries_are_left_out(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "set.zip", dict.fromkeys(("real/a.jpg", "../real/b.jpg", "/real/c.jpg", "real\\d.jpg"), "")
    )
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("real/a.jpg", "another")
    source = one(path, "images")
    assert [i.name for i in source.items] == ["real/a.jpg", "real/d.jpg"]
    assert noted(source, "2 entries", "outside of the archive")
    assert noted(source, "1 entries", "there twice")


def test_encrypted_entries_are_left_out(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"real/a.jpg": "", "real/b.jpg": "", "metadata.csv": "x"})
    data = bytearray(path.read_bytes())
    for mark in range(len(data)):
        if data[mark : mark + 4] == b"PK\x01\x02" and data[mark + 46 : mark + 56] != b"real/a.jpg":
            data[mark + 8] |= 1
    path.write_bytes(data)
    source = one(path, "images")
    assert [i.name for i in source.items] == ["real/a.jpg"]
    assert noted(source, "2 entries", "encrypted")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "directory"])
def test_a_damaged_archive(tmp_path: Path, damage: str) -> None:
    path = write_zip(tmp_path / "set.zip", {f"real/{i}.jpg": "x" * 50 for i in range(20)})
    data = path.read_bytes()
    start = struct.unpack_from("<L", data, len(data) - 6)[0]
    path.write_bytes(
        {
            "cut": data[:-40],
            "empty": b"",
            "text": b"<html>",
            "directory": data[:start] + b"\0" * 40 + data[start + 40 :],
        }[damage]
    )
    with pytest.raises(SourceError, match=r"set\.zip: the archive cannot be listed: it is damaged"):
        scan(path, "images")
    with pytest.raises(SourceError, match="damaged"):
        scan(tmp_path, "images")
    touch(tmp_path, ["fake/a.png"])
    assert noted(one(tmp_path, "images"), "damaged")


def test_an_archive_with_damaged_metadata_is_still_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"real/a.jpg": "x", "metadata.csv": METADATA})
    path.write_bytes(path.read_bytes().replace(b"x.mp4", b"y.mp4"))  # the checksum is wrong now
    source = one(path, "images")
    assert len(source.items) == 1
    assert noted(source, "metadata.csv", "originals are unknown")


@pytest.mark.parametrize("lie", [False, True])
def test_an_archive_with_too_many_entries_is_refused(tmp_path: Path, lie: bool) -> None:
    path = write_zip(tmp_path / "set.zip", {f"real/{i}.jpg": "" for i in range(11)})
    if lie:
        data = bytearray(path.read_bytes())
        struct.pack_into("<HH", data, len(data) - 14, 1, 1)
        path.write_bytes(data)
    assert len(one(path, "images").items) == 11
    with pytest.raises(
        SourceError, match=r"11 entries are over the limit of 10 \(preprocess\.limits\.archive_entries\)"
    ):
        scan(path, "images", LimitsConfig(archive_entries=10))


def test_a_64_bit_archive_states_its_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"real/{i}.jpg"), b"")
    monkeypatch.setattr(archives, "Archive", None)  # refused before anything is loaded
    with pytest.raises(TooLargeMedia, match="70000 entries"):
        archives.open_zip(path, LimitsConfig(archive_entries=69_999))


def test_flat_folders_pair_by_name(tmp_path: Path) -> None:
    touch(tmp_path, ["real/1.mp4", "fake/1.mp4", "fake/2.mov", "notes.txt", "other/3.mp4", ".hidden/real/4.mp4"])
    source = one(tmp_path, "videos")
    assert {(i.name, i.label, i.group, i.split) for i in source.items} == {
        ("real/1.mp4", REAL, "1", None),
        ("fake/1.mp4", FAKE, "1", None),
        ("fake/2.mov", FAKE, "2", None),
    }
    assert noted(source, "1 videos", "other: 1")


def test_ciplab_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["real_and_fake_face/training_real/a.jpg", "real_and_fake_face/training_fake/b.jpg"])
    source = one(tmp_path, "images")
    assert source.dataset == "real_and_fake_face"
    assert [i.label for i in source.items] == [FAKE, REAL]


def test_the_named_folder_itself_may_carry_the_label(tmp_path: Path) -> None:
    touch(tmp_path, ["Fake/a.png", "Fake/test/b.png"])
    assert [(i.label, i.split) for i in one(tmp_path / "Fake", "images").items] == [(FAKE, None), (FAKE, "test")]


def test_sets_with_both_labels_are_apart_and_the_rest_stays_together(tmp_path: Path) -> None:
    touch(
        tmp_path,
        [f"{place}/1.png" for place in ("a/real", "a/fake", "b/train/real", "b/train/fake", "c/real", "d/fake")],
    )
    found = {source.dataset: [i.name for i in source.items] for source in scan(tmp_path, "images")}
    assert found == {
        "a": ["fake/1.png", "real/1.png"],
        "b": ["train/fake/1.png", "train/real/1.png"],
        tmp_path.name: ["c/real/1.png", "d/fake/1.png"],  # one group: perhaps c/real/1 is what d/fake/1 was made of
    }


# ---- tables --------------------------------------------------------------------------------------------------------

ROWS = [
    {"path": "clips/a.mp4", "label": "Real", "group": "g", "split": "Val", "method": "", "dataset": ""},
    {"path": "clips/b c.mp4", "label": "1", "group": "g", "split": "valid", "method": "swap", "dataset": ""},
    {"path": "clips\\d.mp4", "label": "FAKE", "group": "", "split": "", "method": "", "dataset": "other"},
    {"path": "clips/gone.mp4", "label": "0", "group": "", "split": "TRAIN", "method": "", "dataset": ""},
    {"path": "clips/still.jpg", "label": "0", "group": "", "split": "", "method": "", "dataset": ""},
]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], front: str = "") -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))  # writes CRLF
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes((front + text.getvalue()).encode(errors="surrogateescape"))
    return path


@pytest.mark.parametrize("name", ["my.csv", "my.parquet", "MY.CSV"])
def test_tables(tmp_path: Path, name: str) -> None:
    touch(tmp_path, ["clips/a.mp4", "clips/b c.mp4", "clips/d.mp4", "clips/still.jpg"])
    path = write_table(tmp_path / name, ROWS, front="\ufeff")
    mine, other = scan(path, "videos")
    stem = name.split(".")[0]
    assert (mine.layout, mine.dataset, other.dataset, mine.root) == ("list", stem, "other", path)
    assert [(i.name, i.label, i.group, i.split, i.method) for i in mine.items] == [
        ("clips/a.mp4", REAL, "g", "validation", ""),
        ("clips/b c.mp4", FAKE, "g", "validation", "swap"),
    ]
    assert [(i.name, i.label, i.group, i.split) for i in other.items] == [("clips/d.mp4", FAKE, "d", None)]
    assert all(i.path.is_file() for i in (*mine.items, *other.items))
    assert mine.missing == ("clips/gone.mp4",)
    assert noted(mine, "1 rows", "not videos")
    assert [i.name for i in one(path, "images").items] == ["clips/still.jpg"]


def test_a_table_needs_two_columns_only(tmp_path: Path) -> None:
    touch(tmp_path, ["a.mp4", "fake/b.mp4"])
    rows = [
        {"path": str(tmp_path / "a.mp4"), "label": 1},
        {"path": "fake/b.mp4", "label": 0},
        {"path": "a.mp4", "label": 1},
    ]
    for name in ("x.csv", "x.parquet"):
        source = one(write_table(tmp_path / name, rows), "videos")
        assert [(i.label, i.group, i.dataset) for i in source.items] == [
            (FAKE, "a", "x"),
            (REAL, "b", "x"),
            (FAKE, "a", "x"),
        ]
        assert noted(source, "1 rows", "contradict the name of the folder", "fake/b.mp4")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "b.mp4", "label": "maybe"}, "label 'maybe' is none of"),
        ({"path": "b.mp4", "label": ""}, "label '' is none of"),
        ({"path": "b.mp4", "label": "0", "split": "holiday"}, "split 'holiday' is none of"),
        ({"path": " ", "label": "0"}, "no path"),
        ({"path": ".", "label": "0"}, "is a folder"),
        ({"path": "a.mp4", "label": "fake"}, "stands above with the other label"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, str], message: str) -> None:
    touch(tmp_path, ["a.mp4"])
    rows = [{"path": "a.mp4", "label": "real", "split": ""}, {"split": "", **row}]
    with pytest.raises(SourceError, match=rf"list\.csv, row 3: .*{message}"):
        scan(write_table(tmp_path / "list.csv", rows), "videos")
    with pytest.raises(SourceError, match=rf"list\.parquet, row 2: .*{message}"):
        scan(write_table(tmp_path / "list.parquet", rows), "videos")


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_table_without_the_columns_or_damaged(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="no column label"):
        scan(write_table(tmp_path / name, [{"path": "a.mp4", "mark": "1"}]), "videos")
    (tmp_path / name).write_bytes(b"PAR1\xff" * 9)
    with pytest.raises(SourceError, match=r"no column path|not a parquet file"):
        scan(tmp_path / name, "videos")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SourceError, match=r"no column path|not a parquet file"):
        scan(tmp_path / name, "videos")


def test_a_short_row_and_a_giant_field(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\na.mp4\n")
    with pytest.raises(SourceError, match=r"row 2: label '' is none of"):
        scan(tmp_path / "x.csv", "videos")
    (tmp_path / "x.csv").write_text("path,label\n" + "a" * 200_000 + ",1\n")
    with pytest.raises(SourceError, match="not a CSV file"):
        scan(tmp_path / "x.csv", "videos")


def test_a_table_can_name_files_that_are_not_utf8(tmp_path: Path) -> None:
    name = b'caf\xe9, "x"\n.mp4'.decode(errors="surrogateescape")
    touch(tmp_path, [name])
    source = one(write_table(tmp_path / "x.csv", [{"path": name, "label": "real"}]), "videos")
    assert [i.name for i in source.items] == [name]
