import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dfpipe.errors import CorruptMedia, UnreadableMedia, UnsupportedMedia
from dfpipe.preprocess.containers import media_kind, sniff
from dfpipe.types import Image


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff"])
def test_pictures_by_content_whatever_their_name(save_still: Callable[[str, Image], Path], suffix: str) -> None:
    path = save_still(f"a.{suffix}", np.zeros((8, 8, 3), np.uint8))
    disguised = path.rename(path.with_name("really.mp4"))
    assert media_kind(disguised) == "image"


def test_clips_by_content(clip: Path) -> None:
    assert media_kind(clip) == "video"


@pytest.mark.parametrize(
    "head",
    [
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<!DOCTYPE html><html>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"<svg xmlns=",
        b"PK\x03\x04",
        b"GIF",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"",
    ],
)
def test_everything_else_is_nothing(head: bytes) -> None:
    assert sniff(head) is None


def test_playlists_named_mp4_never_reach_a_decoder(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    with pytest.raises(UnsupportedMedia, match="first bytes"):
        media_kind(path)


def test_empty_missing_folder_and_pipe(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(CorruptMedia, match="empty"):
        media_kind(tmp_path / "empty.mp4")
    with pytest.raises(UnreadableMedia, match="no such file"):
        media_kind(tmp_path / "missing.mp4")
    with pytest.raises(UnreadableMedia, match="not a regular file"):
        media_kind(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnreadableMedia, match="not a regular file"):
        media_kind(tmp_path / "pipe.mp4")
