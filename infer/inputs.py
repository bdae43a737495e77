"""What is there to judge: files and folders to a list of inputs."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dfpipe.errors import MediaError, SourceError
from dfpipe.preprocess.containers import IMAGE_SUFFIXES, VIDEO_SUFFIXES, media_kind


@dataclass(frozen=True)
class Inputs:
    """Files to judge, and those in the folders that were passed over because they are no media."""

    paths: tuple[Path, ...]
    passed_over: tuple[Path, ...]


def collect(paths: Iterable[Path]) -> Inputs:
    """Lists what to judge.

    A file that is named itself is always judged, even if it is not there: it then gets its own ERROR line. In a folder,
    searched with all folders below it, every regular file counts that is named like media or starts like media; hidden
    files are left alone.

    Raises:
        SourceError: Nothing usable.
    """
    found: dict[Path, None] = {}  # a set that keeps the order
    passed_over: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        for file in _walk(path):
            if _looks_like_media(file):
                found[file] = None
            else:
                passed_over.append(file)
    if not found:
        raise SourceError(f"nothing usable in {', '.join(map(str, paths))}: no clip and no picture there")
    return Inputs(tuple(found), tuple(passed_over))


def _walk(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order; links to folders are not followed, so there is no way out or round."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        files += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _looks_like_media(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        return True
    try:
        media_kind(path)
    except MediaError:
        return False
    return True
