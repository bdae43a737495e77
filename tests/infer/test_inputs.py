import os
import zipfile
from pathlib import Path

import pytest

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, SourceError, TooLargeMedia, UnreadableMedia
from dfpipe.infer.inputs import Upload, collect


@pytest.fixture
def uploads(tmp_path: Path, clip: Path) -> Path:
    folder = tmp_path / "uploads"
    (folder / "sub folder").mkdir(parents=True)
    (folder / "sub folder" / "no suffix").write_bytes(clip.read_bytes())
    (folder / "text.MP4").write_text("no clip")
    (folder / "metadata.json").write_text("{}")
    (folder / ".hidden.mp4").touch()
    os.symlink(folder, folder / "round")
    return folder


def test_media_by_name_or_content_and_the_rest_is_told(uploads: Path) -> None:
    found = collect([uploads])
    assert [u.path.name for u in found.uploads] == ["text.MP4", "no suffix"]
    assert [Path(name).name for name in found.passed_over] == ["metadata.json"]


def test_named_files_always_count_once(uploads: Path) -> None:
    found = collect([uploads / "metadata.json", uploads / "gone.mp4", uploads, uploads / "text.MP4"])
    assert [u.path.name for u in found.uploads] == ["metadata.json", "gone.mp4", "text.MP4", "no suffix"]


def test_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(SourceError, match="nothing usable"):
        collect([tmp_path])


def test_a_pipe_does_not_block(tmp_path: Path, clip: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    assert [u.path.name for u in collect([tmp_path]).uploads] == ["a.mp4"]


@pytest.fixture
def archive(tmp_path: Path, clip: Path) -> Path:
    path = tmp_path / "media.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(clip, "sub/clip.mp4")
        archive.write(clip, "no suffix")
        archive.writestr("notes.txt", "hello")
        archive.writestr("../../outside.mp4", "evil")
        archive.writestr("__MACOSX/._clip.mp4", "shadow")
    return path


def names(*words: str | Path, skip: Path | None = None) -> list[str]:
    return [str(upload) for upload in collect(words, skip).uploads]


def test_a_zip_is_looked_into_wherever_it_lies(tmp_path: Path, archive: Path) -> None:
    inside = [f"{archive}/no suffix", f"{archive}/sub/clip.mp4"]
    assert names(archive) == inside
    assert names(tmp_path) == inside
    passed = collect([archive]).passed_over
    assert sorted(passed) == [f"{archive}/../../outside.mp4", f"{archive}/notes.txt"]


def test_what_is_in_a_zip_becomes_a_file_for_a_while(tmp_path: Path, archive: Path, clip: Path) -> None:
    with Upload(archive, "sub/clip.mp4").as_file(tmp_path, LimitsConfig()) as file:
        assert file.read_bytes() == clip.read_bytes()
        assert tmp_path in file.parents
    assert not file.exists()
    with pytest.raises(TooLargeMedia), Upload(archive, "sub/clip.mp4").as_file(tmp_path, LimitsConfig(file_gb=1e-6)):
        pass
    with pytest.raises(UnreadableMedia), Upload(archive, "gone").as_file(tmp_path, LimitsConfig()):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["media.zip"]


def test_a_damaged_zip_is_an_input_that_fails(tmp_path: Path, archive: Path) -> None:
    data = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    assert names(tmp_path / "cut.zip") == [str(tmp_path / "cut.zip")]
    start = data.index(b"sub/clip.mp4") + 40
    archive.write_bytes(data[:start] + bytes(100) + data[start + 100 :])
    with pytest.raises(CorruptMedia), Upload(archive, "sub/clip.mp4").as_file(tmp_path, LimitsConfig()):
        pass


def test_patterns(uploads: Path) -> None:
    assert names(f"{uploads}/*.MP4") == [f"{uploads}/text.MP4"]
    assert names(f"{uploads}/**/no*") == [f"{uploads}/sub folder/no suffix"]
    with pytest.raises(SourceError, match="nothing matches"):
        collect([f"{uploads}/*.mov"])
    (uploads / "what [1].mp4").touch()  # a name may hold the signs of a pattern
    assert names(uploads / "what [1].mp4") == [f"{uploads}/what [1].mp4"]


def test_what_is_no_pattern_is_refused(uploads: Path) -> None:
    with pytest.raises(SourceError, match="not a pattern"):
        collect([str(uploads / "a**b")])


def test_a_name_too_long_for_the_file_system_is_judged_and_fails() -> None:
    assert collect(["x" * 300]).uploads == (Upload(Path("x" * 300)),)


def test_lists(uploads: Path, tmp_path: Path) -> None:
    text = f"\ufeff# a comment\r\n{uploads}/text.MP4\r\n\n{uploads}/gone.mp4\n{uploads}/sub*"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    assert names(f"@{tmp_path}/list.txt") == [
        f"{uploads}/text.MP4",
        f"{uploads}/gone.mp4",
        f"{uploads}/sub folder/no suffix",
    ]
    with pytest.raises(SourceError, match="cannot be read"):
        collect(["@gone.txt"])


def test_a_file_may_be_called_like_a_list(elsewhere: Path) -> None:
    Path("@me.mp4").touch()
    assert names("@me.mp4") == ["@me.mp4"]


def test_verdicts_are_not_judged(uploads: Path) -> None:
    (uploads / "verdicts" / "clip-1").mkdir(parents=True)
    (uploads / "verdicts" / "clip-1" / "overlay.mp4").touch()
    assert len(names(uploads)) == 3
    assert len(names(uploads, skip=uploads / "verdicts")) == 2


def test_an_archive_that_cannot_be_listed_gets_an_error_that_says_so(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:-30])
    found = collect([tmp_path])
    assert [str(upload) for upload in found.uploads] == [
        str(tmp_path / "cut.zip"),
        f"{archive}/no suffix",
        f"{archive}/sub/clip.mp4",
    ]
    with (
        pytest.raises(CorruptMedia, match=r"the archive cannot be listed: it is damaged"),
        found.uploads[0].as_file(tmp_path, LimitsConfig()),
    ):
        pass
    (upload,) = collect([archive], limits=LimitsConfig(archive_entries=2)).uploads
    with pytest.raises(TooLargeMedia, match="5 entries are over"), upload.as_file(tmp_path, LimitsConfig()):
        pass


def test_entries_of_windows_archivers_can_be_read(tmp_path: Path, clip: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as made:
        made.write(clip, "sub\\clip.mp4".replace("\\", "?"))
    data = (tmp_path / "w.zip").read_bytes().replace(b"sub?clip.mp4", b"sub\\clip.mp4")
    (tmp_path / "w.zip").write_bytes(data)
    (upload,) = collect([tmp_path / "w.zip"]).uploads
    with upload.as_file(tmp_path, LimitsConfig()) as file:
        assert file.read_bytes() == clip.read_bytes()
