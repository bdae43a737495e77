import os
from pathlib import Path

import pytest

from dfpipe.errors import SourceError
from dfpipe.infer.inputs import collect


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
    assert [p.name for p in found.paths] == ["text.MP4", "no suffix"]
    assert [p.name for p in found.passed_over] == ["metadata.json"]


def test_named_files_always_count_once(uploads: Path) -> None:
    found = collect([uploads / "metadata.json", uploads / "gone.mp4", uploads, uploads / "text.MP4"])
    assert [p.name for p in found.paths] == ["metadata.json", "gone.mp4", "text.MP4", "no suffix"]


def test_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(SourceError, match="nothing usable"):
        collect([tmp_path])


def test_a_pipe_does_not_block(tmp_path: Path, clip: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    assert [p.name for p in collect([tmp_path]).paths] == ["a.mp4"]
