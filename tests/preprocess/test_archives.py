"""Archives that lie, burst or break, and the children in which they are looked at."""

import errno
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfpipe.config import LimitsConfig
from dfpipe.errors import (
    CorruptMedia,
    MediaCrashed,
    MediaError,
    MediaTimeout,
    ResourceError,
    TooLargeMedia,
    UnreadableMedia,
    UnsupportedMedia,
)
from dfpipe.preprocess import archives, listings
from dfpipe.preprocess.archives import open_zip, read_member, unpacked
from dfpipe.preprocess.listings import Listing, hash_task, in_children, list_task
from dfpipe.preprocess.sources import scan, summary

LIMITS = LimitsConfig()
PNG = b"\x89PNG\r\n\x1a\n"


def write_zip(path: Path, entries: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def patch(path: Path, name: str, offset: int, form: str, value: int) -> None:
    """Changes a field of an entry in the table of contents (APPNOTE.TXT 4.3.12)."""
    data = bytearray(path.read_bytes())
    place = data.rindex(name.encode()) - 46
    assert data[place : place + 4] == b"PK\x01\x02"
    struct.pack_into(form, data, place + offset, value)
    path.write_bytes(data)


PACKED, SIZE = 20, 24  # offsets of the two claims


# ---- bombs ---------------------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_by_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_zip(tmp_path / "z.zip", {"a.png": bytes(20_000_000), "small.png": bytes(9_000_000)})
    assert len(read_member(bomb, "small.png", LIMITS)) == 9_000_000  # a black picture may shrink as it likes
    assert len(read_member(bomb, "a.png", LimitsConfig(archive_ratio=2000))) == 20_000_000
    monkeypatch.setattr(archives.Archive, "open", None)  # nothing is unpacked
    with pytest.raises(TooLargeMedia, match=r"over the limit of 200 times \(preprocess\.limits\.archive_ratio"):
        read_member(bomb, "a.png", LIMITS)
    with pytest.raises(TooLargeMedia), unpacked(bomb, "a.png", tmp_path, LIMITS):
        pass


def test_a_bomb_that_claims_to_be_large_in_the_archive_is_refused_by_the_truth(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(1_000_000)
    bomb = write_zip(tmp_path / "z.zip", {"a.png": bytes(40_000_000), "b.png": noise})
    patch(bomb, "a.png", PACKED, "<L", 900_000)
    with pytest.raises(TooLargeMedia, match="the limit of 200 times"):
        read_member(bomb, "a.png", LIMITS)


def test_an_entry_that_holds_more_than_it_claims_is_damaged(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "z.zip", {"a.png": bytes(40_000_000)})
    patch(bomb, "a.png", SIZE, "<L", 1000)
    with pytest.raises(CorruptMedia, match="CRC"):
        read_member(bomb, "a.png", LIMITS)


def test_nested_archives_are_not_opened(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"a.png": PNG})
    outer = write_zip(tmp_path / "z.zip", {"inner.zip": inner.read_bytes(), "b.png": PNG})
    assert [(e.name, e.media) for e in list_task(outer, LIMITS).entries] == [("b.png", True), ("inner.zip", False)]


# ---- names ---------------------------------------------------------------------------------------------------------


def test_names_that_lead_out_are_refused_and_none_becomes_a_path(tmp_path: Path) -> None:
    evil = ["../a.png", "x/../../a.png", "/a.png", "C:\\a.png", "c:a.png", "..\\a.png", "\\\\host\\a.png"]
    path = write_zip(tmp_path / "z.zip", {**dict.fromkeys(evil, PNG), "sub\\b.png": PNG})
    listed = list_task(path, LIMITS)
    assert [e.name for e in listed.entries] == ["sub/b.png"]
    assert set(listed.refused["outside of the archive"]) == {name.replace("\\", "/") for name in evil}
    with unpacked(path, "../a.png", tmp_path / ".", LIMITS) as file:  # whoever asks all the same
        assert file.name == "entry.png"
        assert tmp_path in file.resolve().parents


def test_of_two_entries_with_one_name_the_listed_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"second")
    assert list_task(path, LIMITS).refused == {"there twice": ["a.png"]}
    assert read_member(path, "a.png", LIMITS) == b"first"


def test_a_suffix_too_long_for_a_file_does_no_harm(tmp_path: Path) -> None:
    name = "a." + "x" * 300
    path = write_zip(tmp_path / "z.zip", {name: PNG})
    with unpacked(path, name, tmp_path, LIMITS) as file:
        assert file.read_bytes() == PNG


# ---- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_of_every_kind_is_the_entry_s(tmp_path: Path, packing: int) -> None:
    path = write_zip(tmp_path / "z.zip", {"a.png": random.Random(1).randbytes(5000)}, packing)
    whole = path.read_bytes()
    for place in range(35, 5000, 97):
        data = bytearray(whole)
        data[place : place + 3] = b"\xff\x00\xff"
        (tmp_path / "y.zip").write_bytes(data)
        with pytest.raises(CorruptMedia):
            read_member(tmp_path / "y.zip", "a.png", LIMITS)


def test_mutated_archives_end_in_media_errors_only(tmp_path: Path) -> None:
    names = {"real/a.png": PNG, "no suffix": PNG * 50, "metadata.csv": b"image,original\na,b\n"}
    whole = write_zip(tmp_path / "z.zip", names).read_bytes()
    chance, path, ends = random.Random(2), tmp_path / "y.zip", set()
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 10))):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        path.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        try:
            listed = list_task(path, LIMITS)
            hash_task((path, tuple(e.member for e in listed.entries)), LIMITS)
            ends.add("listed")
        except MediaError as error:
            ends.add(error.state)
    assert {"listed", "corrupt"} <= ends


def test_an_unknown_packing_is_said(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z.zip", {"a.png": PNG})
    patch(path, "a.png", 10, "<H", 93)
    with pytest.raises(UnsupportedMedia, match="cannot be unpacked"):
        read_member(path, "a.png", LIMITS)


# ---- the machine's faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_not_the_fault_of_the_entry(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path / "z.zip", {"a.png": PNG})
    opened = Path.open

    def full(self: Path, mode: str = "r", **rest: Any) -> Any:
        if mode == "wb":
            raise OSError(number, os.strerror(number))
        return opened(self, mode, **rest)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ResourceError, match="no space left"), unpacked(path, "a.png", tmp_path, LIMITS):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["z.zip"]


def fill(path: Path, *, limits: LimitsConfig) -> None:
    """Unpacks under a limit of the system that is below that of ours, as a quota is."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with unpacked(path, "a.png", path.parent, limits):
        pass


def test_a_quota_ends_the_run_and_is_not_recorded_for_the_input(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z.zip", {"a.png": bytes(100_000)})
    with pytest.raises(ResourceError, match="no space left"):
        in_children(fill, [path], LIMITS)


def test_an_archive_that_cannot_be_read_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="Is a directory"):
        open_zip(tmp_path, LIMITS)
    with pytest.raises(UnreadableMedia, match="No such file"):
        read_member(tmp_path / "gone.zip", "a.png", LIMITS)


# ---- children ------------------------------------------------------------------------------------------------------


def where(path: Path, *, limits: LimitsConfig) -> int:
    """Which process works on it."""
    return os.getpid()


def hang(path: Path, *, limits: LimitsConfig) -> None:
    """As a parser that does not end."""
    import time

    time.sleep(60)


def die(path: Path, *, limits: LimitsConfig) -> None:
    """As a parser that crashes."""
    os._exit(3)


def test_many_archives_share_a_few_children(tmp_path: Path) -> None:
    paths = [write_zip(tmp_path / f"{i}.zip", {"a.png": PNG}) for i in range(30)]
    found = in_children(where, paths, LIMITS)
    assert set(found) == set(paths)
    assert os.getpid() not in found.values()
    assert len(set(found.values())) <= listings.default_workers()
    assert all(isinstance(one, Listing) for one in listings.listings(paths, LIMITS).values())


@pytest.mark.parametrize(("task", "error"), [(hang, MediaTimeout), (die, MediaCrashed)])
def test_a_child_that_hangs_or_dies_is_the_archive_s_error(
    tmp_path: Path, task: Callable[..., None], error: type[MediaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path / "z.zip", {"a.png": PNG})
    monkeypatch.setattr(listings, "list_task", task)
    found = listings.listings([path], LimitsConfig(seconds=1))[path]
    assert isinstance(found, error)
    assert str(found).startswith("the archive cannot be listed: ")


def test_folders_without_archives_start_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("real/a.png", "fake/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(PNG)
    monkeypatch.setattr(listings, "run_all", None)
    assert summary(scan(tmp_path, "images"))[0]["inputs"] == 2
    write_zip(tmp_path / "z.zip", {"real/a.png": PNG})
    with pytest.raises(TypeError):  # the wire works
        scan(tmp_path, "images")
