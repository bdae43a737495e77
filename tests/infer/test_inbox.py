import os
from pathlib import Path

import pytest

from dfpipe.errors import SourceError
from dfpipe.infer.inbox import Inbox


def looked(inbox: Inbox, now: float) -> list[str]:
    return [upload.path.name for upload in inbox.look(now)]


def put(path: Path, data: bytes = b"\xff\xd8\xff some picture") -> None:
    path.write_bytes(data)


def test_a_file_is_handed_out_once_and_only_when_it_has_settled(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, settle=5)
    put(tmp_path / "a.jpg")
    assert looked(inbox, 0) == []
    put(tmp_path / "a.jpg", b"\xff\xd8\xff some picture, longer")  # still being written
    assert looked(inbox, 4) == []
    assert looked(inbox, 8) == []
    assert looked(inbox, 9) == ["a.jpg"]
    assert looked(inbox, 20) == []


def test_a_file_that_changes_later_comes_again(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, settle=1)
    put(tmp_path / "a.jpg")
    assert [looked(inbox, now) for now in (0, 1)] == [[], ["a.jpg"]]
    put(tmp_path / "a.jpg", b"\xff\xd8\xff another picture")
    assert [looked(inbox, now) for now in (2, 3, 4)] == [[], ["a.jpg"], []]


def test_a_file_that_goes_and_comes_back_comes_again(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, settle=1)
    put(tmp_path / "a.jpg")
    assert [looked(inbox, now) for now in (0, 1)] == [[], ["a.jpg"]]
    (tmp_path / "a.jpg").unlink()
    assert looked(inbox, 2) == []
    put(tmp_path / "a.jpg")
    assert [looked(inbox, now) for now in (3, 4)] == [[], ["a.jpg"]]


def test_what_is_no_media_or_unfinished_or_hidden_or_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub" / "verdicts").mkdir(parents=True)
    for name in ("a.mp4.part", "b.crdownload", ".hidden.jpg", "sub/c.jpg", "sub/verdicts/overlay.jpg"):
        put(tmp_path / name)
    put(tmp_path / "notes.txt", b"hello")
    os.mkfifo(tmp_path / "pipe")
    inbox = Inbox(tmp_path, skip=tmp_path / "sub" / "verdicts", settle=0)
    looked(inbox, 0)
    assert looked(inbox, 1) == ["c.jpg"]
    (tmp_path / "a.mp4.part").rename(tmp_path / "a.jpg")  # the download is finished
    assert [looked(inbox, now) for now in (2, 3)] == [[], ["a.jpg"]]


def test_arrivals_say_when_there_is_nothing(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    looks = iter([False, False, True])
    found = list(Inbox(tmp_path, every=0.01, settle=0).arrivals(lambda: next(looks)))
    assert [upload and upload.path.name for upload in found] == [None, "a.jpg", None]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        Inbox(tmp_path / "gone")
