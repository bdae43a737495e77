"""What is there to judge: files, folders, patterns, lists and zip archives to a list of uploads."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError, SourceError
from dfpipe.preprocess.archives import MEDIA_SUFFIXES, unpacked
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.listings import Listing, listings
from dfpipe.store import Url, listing, place
from dfpipe.types import Origin

LIST = "@"  # before the name of a file with a path in each line
UNKNOWN = ""  # the mark of a file in a store that is not there
_LISTINGS = 16  # requests to a store at a time; they only wait
_ZIP_HEAD = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Upload:
    """One thing to judge: a file, or one inside a zip archive."""

    path: Path
    member: str = ""  # its name inside `path`, a zip archive
    fault: MediaError | None = field(default=None, compare=False)  # why it cannot be judged, if that is known already
    origin: Origin | None = None  # of what is fetched to `path` for as long as it is worked on

    def __str__(self) -> str:
        if self.origin is not None:
            return self.origin.url
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @contextmanager
    def as_file(self, scratch: Path, limits: LimitsConfig) -> Iterator[Path]:
        """The upload as a file of its own: itself, or unpacked below `scratch` for as long as it is needed.

        Raises:
            MediaError: The archive cannot be read, or holds more than the limits allow.
            ResourceError: The disk of `scratch` is full.
        """
        if self.fault is not None:
            raise self.fault
        if not self.member:
            yield self.path
            return
        with unpacked(self.path, self.member, scratch, limits) as file:
            yield file


@dataclass(frozen=True)
class Inputs:
    """What to judge, and the names in folders and archives that were passed over because they are no media."""

    uploads: tuple[Upload, ...]
    passed_over: tuple[str, ...]


def collect(
    words: Iterable[str | Path],
    skip: Path | Url | None = None,
    limits: LimitsConfig | None = None,
    scratch: Path | None = None,
) -> Inputs:
    """Lists what to judge.

    A file that is named itself is always judged, even if it is not there: it then gets its own ERROR line. In folders
    (with all folders below them) and zip archives every regular file counts that is named like media or starts like media;
    hidden ones are left alone. A word with `*`, `?` or `[` that is no file is a pattern, where `**` goes through all
    folders; a word that begins with `@` names a list of paths and places in stores, one in each line.

    Args:
        words: Paths, patterns and lists in any mix.
        skip: A folder, here or in a store, that is left out wherever it is met: that of the verdicts, whose pictures
            must not be judged.
        limits: What an archive may hold, and what listing one may cost.
        scratch: An empty folder for files of stores, to which each is fetched when its turn comes. Without it, places in
            stores (s3://bucket/folder) are not understood.

    Raises:
        SourceError: Nothing usable, no such place in a store, a pattern without a match, or a list that cannot be read.
    """
    named = [str(word) for word in words]
    found: dict[Upload, None] = {}  # a set that keeps the order
    passed_over: list[str] = []
    places = [where for word in named for where in _places(word, stores=scratch is not None)]
    skipped = skip.resolve() if isinstance(skip, Path) else None
    files = [file for path in places if isinstance(path, Path) for file in _files(path, skipped)]
    here = contents(files, limits or LimitsConfig())
    urls = [url for url in places if isinstance(url, Url)]
    there = _stored(urls, skip, scratch) if scratch is not None else ()
    for upload, media in itertools.chain(here, there):
        if media:
            found[upload] = None
        else:
            passed_over.append(str(upload))
    if not found:
        raise SourceError(f"nothing usable in {', '.join(named)}: no clip and no picture there")
    return Inputs(tuple(found), tuple(passed_over))


def _stored(urls: Sequence[Url], skip: Path | Url | None, scratch: Path) -> Iterator[tuple[Upload, bool]]:
    """The files below places in stores, each with whether it is to be judged: there, the name alone tells of media."""
    numbers = itertools.count()
    with ThreadPoolExecutor(_LISTINGS) as threads:
        found = list(threads.map(_listed, urls))
    for url, origins in zip(urls, found, strict=True):
        for name, origin in sorted(origins.items()):
            suffix = os.path.splitext(name)[1].lower()
            named = origin.url == url.text
            hidden = any(part.startswith(".") for part in name.split("/"))
            if named or not (hidden or (isinstance(skip, Url) and origin.url.startswith(f"{skip}/"))):
                media = suffix in MEDIA_SUFFIXES
                path = scratch / f"{next(numbers)}{suffix if media else ''}"  # a name of ours: theirs may be no file's
                yield Upload(path, origin=origin), named or media


def _listed(url: Url) -> dict[str, Origin]:
    """The files below a place. One that is named like media and not there is judged, and gets an ERROR that says so."""
    found = listing(url)
    if not found and os.path.splitext(url.name)[1].lower() in MEDIA_SUFFIXES:
        return {url.name: Origin(url.text, 0, UNKNOWN)}
    return found


def _places(word: str, stores: bool) -> list[Path | Url]:
    """What a word on the command line names. `stores`: whether it may be places in stores."""
    if os.path.lexists(word):  # a name may hold any sign
        return [Path(word)]
    words = _lines(Path(word[1:])) if word.startswith(LIST) else [word]
    found: list[Path | Url] = []
    for each in words:
        where = place(each) if stores else Path(each)
        found += [where] if isinstance(where, Url) else _matches(str(where))
    return found


def _matches(word: str) -> list[Path]:
    if os.path.lexists(word) or not glob.has_magic(word):
        return [Path(word)]
    parts = Path(word).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    # pathlib's `**` does not follow links to folders, unlike that of the module glob, which runs round in circles of them.
    try:
        found = sorted(Path(*parts[:first]).glob(str(Path(*parts[first:]))))
    except ValueError as error:
        raise SourceError(f"{word} is not a pattern ({error}): write a/**/*.mp4 for all folders below a") from error
    if not found:
        raise SourceError(
            f"nothing matches {word}: quote a pattern so that the shell leaves it alone, or name a folder"
        )
    return found


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise SourceError(f"the list {path} cannot be read: {error.strerror}") from error
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _files(path: Path, skip: Path | None) -> Iterator[tuple[Path, bool]]:
    """What was named, or all files in a folder that was, each with whether it was named itself."""
    if os.path.isdir(path):  # Path.is_dir raises for names that are too long
        yield from ((file, False) for file in walk(path, skip))
    else:
        yield path, True


def contents(files: Iterable[tuple[Path, bool]], limits: LimitsConfig) -> Iterator[tuple[Upload, bool]]:
    """Files, or what is in them where they are archives, each with whether it is to be judged.

    Args:
        files: Each with whether it is judged whatever it looks like, because it was named. All archives among them are
            listed together, in children that can be killed.
        limits: What an archive may hold, and what listing one may cost.
    """
    files = list(files)
    listed = listings((file for file, _ in files if _is_zip(file)), limits)
    for file, named in files:
        if file in listed:
            yield from _entries(file, listed[file])
        else:
            yield Upload(file), named or _looks_like_media(file)


def walk(folder: Path, skip: Path | None) -> Iterator[Path]:
    """All files below a folder in a fixed order; links to folders are not followed, so there is no way out or round.

    Args:
        folder: Hidden files and folders in it are left alone.
        skip: A resolved folder that is left out.
    """
    for parent, folders, names in os.walk(folder):
        kept = sorted(f for f in folders if not f.startswith("."))
        folders[:] = [f for f in kept if skip is None or Path(parent, f).resolve() != skip]
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _is_zip(path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(file, len(_ZIP_HEAD)) == _ZIP_HEAD
    except OSError:
        return False
    finally:
        os.close(file)


def _entries(path: Path, listed: Listing | MediaError) -> Iterator[tuple[Upload, bool]]:
    """The files in an archive. One that cannot be listed is judged itself, and gets an ERROR that says so."""
    if isinstance(listed, MediaError):
        yield Upload(path, fault=listed), True
        return
    for entry in listed.entries:
        yield Upload(path, entry.member), entry.media
    for names in listed.refused.values():
        yield from ((Upload(path, name), False) for name in sorted(names))


def _looks_like_media(path: Path) -> bool:
    if path.suffix.lower() in MEDIA_SUFFIXES:
        return True
    try:
        media_kind(path)
    except MediaError:
        return False
    return True
