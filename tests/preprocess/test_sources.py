"""Several collections side by side, odd folders, and the summary."""

import json
import os
import socket
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from dfpipe.errors import ConfigError, SourceError
from dfpipe.preprocess.sources import scan, scan_any, summary, text
from dfpipe.preprocess.splits import check_leaks
from dfpipe.types import Label

FF = [
    "original_sequences/youtube/c40/videos/183.mp4",
    "original_sequences/youtube/c40/videos/253.mp4",
    "original_sequences/youtube/c40/videos/469.mp4",
    "original_sequences/actors/c40/videos/24__outside_talking.mp4",
    "manipulated_sequences/Deepfakes/c40/videos/183_253.mp4",
    "manipulated_sequences/FaceSwap/c40/videos/183_253.mp4",
    "manipulated_sequences/DeepFakeDetection/c40/videos/24_23__outside_talking__HASH.mp4",
]


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_zip(path: Path, entries: Mapping[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Four collections and some loose files."""
    touch(
        tmp_path,
        ["dfdc/part_0/a.mp4", "faces/real/1.png", "faces/real/1.mp4", "faces/fake/1.mp4", "loose/x.mp4", "y.mp4"],
    )
    (tmp_path / "dfdc/part_0/metadata.json").write_text('{"a.mp4": {"label": "REAL"}}')
    touch(tmp_path / "ff", FF)
    touch(tmp_path / "celeb", ["Celeb-real/id0_0000.mp4"])
    write_zip(tmp_path / "deep/stills.zip", {"real/1.png": "", "fake/2.png": ""})
    return tmp_path


def test_all_collections_of_a_folder_are_found(mixed: Path) -> None:
    found = {source.dataset: (source.layout, source.kind, len(source.items)) for source in scan(mixed, "videos")}
    assert found == {
        "dfdc": ("DFDC", "videos", 1),
        "faceforensics": ("FaceForensics++", "videos", 7),
        "celebdf": ("Celeb-DF", "videos", 1),
        "faces": ("videos in real and fake folders", "videos", 2),
    }
    assert {s.dataset: (s.kind, len(s.items)) for s in scan(mixed, "images")} == {
        "stills": ("images", 2),
        "faces": ("images", 1),
    }


def test_each_file_is_claimed_once_and_the_rest_is_counted(mixed: Path) -> None:
    found = scan(mixed, "videos")
    paths = [item.path for source in found for item in source.items]
    assert len(paths) == len(set(paths))
    (note,) = [note for source in found for note in source.notes]
    assert f"2 videos in {mixed} belong to no known layout: left out" in note
    assert "at its top: 1" in note
    assert "loose: 1" in note


def test_a_clip_in_two_lists_goes_to_one(tmp_path: Path) -> None:
    touch(tmp_path, ["real/a.mp4"])
    (tmp_path / "real/metadata.json").write_text('{"a.mp4": {"label": "FAKE"}}')
    (tmp_path / "real/labels.csv").write_text("filename,label\na.mp4,0\n")
    (source,) = scan(tmp_path, "videos")
    assert (source.dataset, len(source.items), source.missing) == ("dfdc_test", 1, ())


def test_equal_names_in_one_dataset_become_paths(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        touch(tmp_path, [f"{copy}/Celeb-real/id0_0000.mp4", f"{copy}/Celeb-real/{copy}.mp4"])
        write_zip(tmp_path / copy / "z.zip", {"real/1.png": "", "real/x.png": "", f"real/{copy}.png": ""})
    found = scan(tmp_path, "videos")
    assert sorted(i.name for s in found for i in s.items) == [
        "Celeb-real/one.mp4",
        "Celeb-real/two.mp4",
        "one/Celeb-real/id0_0000.mp4",
        "two/Celeb-real/id0_0000.mp4",
    ]
    assert "2 inputs share a name" in found[0].notes[-1]
    stills = scan(tmp_path, "images")
    names = [i.name for s in stills for i in s.items]
    assert len(set(names)) == 6
    assert {"one/z.zip/real/1.png", "two/z.zip/real/1.png", "real/one.png"} <= set(names)
    assert "4 inputs share a name" in stills[0].notes[-1]


def test_nothing_usable_lists_the_layouts(tmp_path: Path) -> None:
    touch(tmp_path, ["a.mp4", "readme.txt"])
    with pytest.raises(SourceError, match=r"metadata\.json.*FaceForensics.*Celeb-DF.*real and fake"):
        scan(tmp_path, "videos")
    with pytest.raises(SourceError, match=r"1 videos in .* belong to no known layout"):
        scan(tmp_path, "videos")
    with pytest.raises(SourceError, match="no such folder"):
        scan(tmp_path / "nowhere", "videos")
    with pytest.raises(SourceError, match="not a folder"):
        scan(tmp_path / "a.mp4", "videos")
    with pytest.raises(ConfigError, match="kind of media"):
        scan(tmp_path, "sounds")


def test_links_pipes_and_sockets_neither_block_nor_loop(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root, ["real/a.mp4"])
    (root / "real/again").symlink_to(root, target_is_directory=True)
    (root / "real/b.mp4").symlink_to(root / "real/a.mp4")
    (root / "real/broken.mp4").symlink_to(root / "nowhere.mp4")
    for name in ("real/pipe.mp4", "metadata.json", "labels.csv", "metadata.csv", "x.zip", "x.json"):
        os.mkfifo(root / name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "real/socket.mp4"))
        (source,) = scan(root, "videos")
        with pytest.raises(SourceError, match="nothing usable"):
            scan(root, "images")
    assert [i.name for i in source.items] == ["real/a.mp4", "real/b.mp4"]
    assert any("1 links to folders are not followed: real/again" in note for note in source.notes)
    with pytest.raises(SourceError, match="not a folder"):
        scan(root / "x.json", "images")


def test_an_unreadable_folder_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, ["real/a.mp4", "fake/b.mp4"])
    scandir = os.scandir

    def refuse(path: Path) -> object:  # tests may run as root, whom permissions do not stop
        if Path(path).name == "fake":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (source,) = scan(tmp_path, "videos")
    assert len(source.items) == 1
    assert source.notes == ("1 folders cannot be read: fake (Permission denied)",)


@pytest.mark.parametrize("name", ["a b", "a'\"b", "a\nb", "ü 日本", "a\\b", "caf\udce9", "%s {0}", "-rf", "~"])
def test_difficult_names(tmp_path: Path, name: str) -> None:
    touch(tmp_path, [f"{name}/real/{name}.mp4", f"{name}/fake/{name}.mp4"])
    for root in (tmp_path, tmp_path / name):
        found = scan(root, "videos")
        assert [(i.name, i.path.is_file()) for i in found[0].items] == [
            (f"fake/{name}.mp4", True),
            (f"real/{name}.mp4", True),
        ]
        for line in text(summary(found)):
            line.encode("utf-8")  # what cannot be printed is escaped
            assert line.isprintable()


def test_many_files_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in range(20):
        place = tmp_path / f"set/{('train', 'test')[folder % 2]}/{('real', 'fake')[folder // 2 % 2]}/{folder}"
        place.mkdir(parents=True)
        for number in range(1000):
            (place / f"{number}.jpg").touch()
    visited: Counter[str] = Counter()
    scandir = os.scandir

    def counted(path: Path) -> object:
        visited[str(path)] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    (source,) = scan(tmp_path, "images")
    assert len(source.items) == 20_000
    assert set(visited.values()) == {1}


def test_clips_and_stills_at_once(mixed: Path) -> None:
    assert [(s.dataset, s.kind) for s in scan_any(mixed)] == [
        (s.dataset, s.kind) for kind in ("videos", "images") for s in scan(mixed, kind)
    ]
    assert [s.dataset for s in scan_any(mixed / "deep/stills.zip")] == ["stills"]
    assert [s.dataset for s in scan_any(mixed / "ff")] == ["faceforensics"]
    (mixed / "bad.csv").write_text("path,label\na.mp4,maybe\n")
    with pytest.raises(SourceError, match=r"bad\.csv, row 2"):
        scan_any(mixed / "bad.csv")
    with pytest.raises(SourceError, match="nothing usable"):
        scan_any(mixed / "loose")
    (mixed / "bad.zip").touch()
    with pytest.raises(SourceError, match="damaged"):
        scan_any(mixed / "bad.zip")
    with pytest.raises(SourceError, match="no such folder"):
        scan_any(mixed / "nowhere")


# ---- the summary ---------------------------------------------------------------------------------------------------


def test_summary_counts(mixed: Path) -> None:
    found = scan(mixed, "videos")
    rows = {row["dataset"]: row for row in summary(found)}
    assert json.loads(json.dumps(rows)) == rows
    ff = rows["faceforensics"]
    assert (ff["inputs"], ff["labels"], ff["splits"]) == (7, {"real": 4, "fake": 3}, {"not given": 7})
    assert ff["methods"] == {"Deepfakes": 1, "FaceSwap": 1, "DeepFakeDetection": 1}
    assert ff["root"] == str(mixed / "ff")
    lines = text(list(rows.values()), width=80)
    assert max(map(len, lines)) <= 80
    assert any("3 fake, 4 real" in line for line in lines)


def test_the_same_content_twice(tmp_path: Path) -> None:
    contents = {
        "real/1.png": "same",
        "real/2.png": "same",
        "fake/3.png": "both",
        "real/4.png": "both",
        "real/5.png": "alon",  # equal size, other content
        "train/real/6.png": "cross",
        "test/real/7.png": "cross",
    }
    for name, content in contents.items():
        touch(tmp_path, [f"set/{name}"])
        (tmp_path / "set" / name).write_text(content)
    archive = write_zip(tmp_path / "set.zip", contents)
    for root in (tmp_path / "set", archive):
        (row,) = summary(scan(root, "images"))
        labels, splits, plain = row["oddities"]
        assert labels.startswith("SERIOUS: 1 contents have both labels")
        assert "set/fake/3.png = set/real/4.png" in labels
        assert splits.startswith("SERIOUS: 1 contents are in more than one of the publisher's splits")
        assert plain.startswith("3 contents occur more than once")
    (row,) = summary(scan(archive, "images"), check_content=False)
    assert row["oddities"] == []
    (row,) = summary(scan(archive, "images"), max_hashed=1)
    assert row["oddities"] == ["only 1 of 6 inputs of equal size were compared: there may be more of the same content"]


def test_content_is_compared_across_collections(tmp_path: Path) -> None:
    for name in ("a/real/1.mp4", "a/fake/2.mp4", "b/real/3.mp4", "b/fake/4.mp4"):
        touch(tmp_path, [name])
        (tmp_path / name).write_text("same" if name[-5] in "14" else name)
    first, second = summary(scan(tmp_path, "videos"))
    assert "SERIOUS: 1 contents have both labels, real and fake: a/real/1.mp4 = b/fake/4.mp4" in first["oddities"]
    assert second["oddities"] == []


def test_empty_files_are_no_copies_of_each_other(tmp_path: Path) -> None:
    names = ("real/1.png", "fake/2.png", "train/real/3.png")
    touch(tmp_path / "set", names)
    archive = write_zip(tmp_path / "set.zip", dict.fromkeys(names, ""))
    for root in (tmp_path / "set", archive):
        (row,) = summary(scan(root, "images"))
        assert row["oddities"] == ["3 inputs are empty: fake/2.png, real/1.png, train/real/3.png"]


def test_frames_in_a_folder_are_compared_as_one(tmp_path: Path) -> None:
    videos = {n: {"label": "x_Real", "frames": [f"f/{n}/0.png", f"f/{n}/1.png"]} for n in "abc"}
    for video, content in (("a", "01"), ("b", "01"), ("c", "02")):
        touch(tmp_path, [f"f/{video}/{i}.png" for i in (0, 1)])
        for i in (0, 1):
            (tmp_path / f"f/{video}/{i}.png").write_text(content[i])
    (tmp_path / "x.json").write_text(json.dumps({"x": {"x_Real": {"train": videos}}}))
    (row,) = summary(scan(tmp_path, "images"))
    assert row["oddities"] == ["1 contents occur more than once: x/x_Real/a = x/x_Real/b"]


def test_files_that_vanish_or_resist_do_not_end_the_summary(tmp_path: Path) -> None:
    touch(tmp_path, ["set/real/1.png", "set/fake/2.png"])
    (tmp_path / "set/fake/2.png").write_text("x")
    stills = scan(tmp_path / "set", "images")
    (tmp_path / "set/real/1.png").unlink()
    (row,) = summary(stills)
    assert row["oddities"] == ["1 inputs could not be read and compared: real/1.png"]
    archive = write_zip(tmp_path / "z.zip", {"real/1.png": "twin", "real/2.png": "twin"})
    packed = scan(archive, "images")
    archive.write_bytes(archive.read_bytes().replace(b"twin", b"tw1n"))  # checksums are wrong now
    (row,) = summary(packed)
    assert row["oddities"] == ["2 inputs could not be read and compared: real/1.png, real/2.png"]
    archive.unlink()
    assert "2 inputs could not be read" in summary(packed)[0]["oddities"][0]


# ---- real data -----------------------------------------------------------------------------------------------------


def test_real_collections(real_data: Path) -> None:
    found = {source.dataset: source for source in scan(real_data, "videos")}
    counts = {name: Counter(i.label for i in source.items) for name, source in found.items()}
    assert counts == {
        "dfdc": {Label.REAL: 1, Label.FAKE: 2},
        "faceforensics": {Label.REAL: 6, Label.FAKE: 16},
        "dfdc_face_clips": {Label.REAL: 1, Label.FAKE: 19},
        "clips": {Label.REAL: 11},
    }
    assert len(found["dfdc"].missing) == 5
    assert {i.group for i in found["faceforensics"].items} == {"183+253", "469+481", "actor1", "actor7"}
    assert scan(real_data / "dfdc", "videos")[0].items == found["dfdc"].items


def test_real_archives(real_data: Path) -> None:
    faces = scan(real_data / "dfdc_faces_224.zip", "images")
    assert Counter((i.split, i.label) for i in faces[0].items) == {
        (split, label): count
        for split, count in (("train", 8000), ("validation", 500), ("test", 500))
        for label in Label
    }
    groups = {i.group for i in faces[0].items}
    assert len(groups) < 18_000
    assert all("/" not in group for group in groups)  # every still has its source clip
    check_leaks([i.group for i in faces[0].items], [i.split for i in faces[0].items])
    assert len(scan(real_data / "portraits_256.zip", "images")[0].items) == 600
    assert len(scan(real_data / "photos_real_320.zip", "images")[0].items) == 380
    assert {s.dataset for s in scan(real_data, "images")} >= {"dfdc_faces_224", "portraits_256", "photos_real_320"}
