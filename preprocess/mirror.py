"""Extracted faces that lie in a store, copied to this machine before anything reads them.

They are copied and not streamed. The order of an epoch is drawn from the seed over all crops, so that a run can be
repeated and gone on with, and such an order takes each crop from anywhere; every epoch reads all of them again, and so
does the next command; and a store answers after tens of milliseconds, which a copy pays once.
"""

import contextlib
import fcntl
import hashlib
import itertools
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import IO

from tqdm import tqdm

from dfpipe.errors import DataError, MediaError, ResourceError, SourceError, UsageError
from dfpipe.files import atomic_file, stamp
from dfpipe.ledger import Ledger
from dfpipe.preprocess.cropfiles import SHARDS, located
from dfpipe.preprocess.manifest import CONFIG, INPUTS, MANIFEST, read_manifest
from dfpipe.preprocess.tree import some
from dfpipe.store import Url, copy, listing
from dfpipe.types import Origin

log = logging.getLogger(__name__)

VARIABLE = "DFPIPE_CACHE"  # of the environment: where copies lie
ORIGIN = "origin.txt"  # says of what a folder is the copy; written anew whenever it was found whole
_LOCK, _USERS, _FETCHED = ".lock", ".users", "fetched.sqlite"
_TABLES = (MANIFEST, INPUTS, CONFIG)
_PICTURES = ("crops/", f"{SHARDS}/")  # nothing else is taken for the picture of a crop, whatever a manifest says
_FETCHES = 16  # files at a time; they only wait, and hold a range of 16 MB each
_AHEAD = 4 * _FETCHES  # files that are asked for, so that a million need not wait in memory
_ROUNDS = 3  # a folder that changes while it is copied is listed so often before it is given up


@contextlib.contextmanager
def here(data: Path | Url) -> Iterator[Path]:
    """The folder here that holds extracted faces: the one that was named, or a copy of one in a store.

    What was copied before and is the same in the store is not copied again. One process copies, others on this machine
    wait for it. As long as the folder is used, no other process changes what is in it.

    Args:
        data: Folder of extracted faces, of crops or tar files.

    Raises:
        SourceError: No such place, or no extracted faces there.
        DataError: Its manifest is damaged, or names crops that are not there.
        ResourceError: The store does not answer, or the disk cannot hold the copy; what was copied whole is kept.
        UsageError: The copy would change under another command, or cannot be written.
    """
    if isinstance(data, Path):
        yield data
        return
    folder = _cache() / f"{re.sub('[^A-Za-z0-9_-]+', '_', data.name)[:40]}-{_digest(str(data))}"
    with contextlib.ExitStack() as stack:
        users = stack.enter_context(_opened(folder, _USERS))
        with _opened(folder, _LOCK) as lock:
            if not _has_waited(lock, folder, data):
                with contextlib.closing(Ledger(folder / _FETCHED)) as fetched:
                    _Copy(data, folder, fetched, users).complete()
            fcntl.flock(users, fcntl.LOCK_SH)
        yield folder


def source_of(folder: Path) -> str:
    """What to call a folder of extracted faces: by the place in a store that it is a copy of, else by its path."""
    try:
        return (folder / ORIGIN).read_text(encoding="utf-8")
    except OSError:
        return str(folder)


def _cache() -> Path:
    """Where copies lie."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dfpipe"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _opened(folder: Path, name: str) -> IO[str]:
    """A file to be locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("w")
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}), where faces from stores are copied to: name another folder "
            f"in {VARIABLE}"
        ) from error


def _has_waited(lock: IO[str], folder: Path, url: Url) -> bool:
    """Takes the lock. True if another process held it and has made the copy whole meanwhile."""
    before = stamp([folder / ORIGIN])
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        log.info("another process is copying %s: waiting for it", url)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return stamp([folder / ORIGIN]) != before


class _Copy:
    """What is here of a folder in a store; held by this process.

    Args:
        url: The folder in the store.
        folder: The copy.
        fetched: Which files are here, and what they were in the store.
        users: Locked by whoever works with the copy.
    """

    def __init__(self, url: Url, folder: Path, fetched: Ledger, users: IO[str]) -> None:
        self._url, self._folder, self._fetched, self._users = url, folder, fetched, users
        self._here = fetched.fingerprints()
        self._alone = False

    def complete(self) -> None:
        """Copies what is not here as it is in the store."""
        for _ in range(_ROUNDS):
            found = listing(self._url)
            if MANIFEST not in found:
                raise SourceError(
                    f"no {MANIFEST} in {self._url}: name a place that 'dfpipe extract' or 'dfpipe pack' wrote"
                )
            wanted = {name: found[name] for name in _TABLES if name in found}
            anew = self._fetch(wanted)
            wanted |= self._pictures(found)
            anew |= self._fetch(wanted)
            if not anew or wanted.items() <= listing(self._url).items():
                self._forget_others(wanted)
                with atomic_file(self._folder / ORIGIN) as temporary:
                    temporary.write_text(str(self._url), encoding="utf-8")
                return
        raise ResourceError(
            f"{self._url} changes while it is copied: run the same command again when whatever writes there has ended"
        )

    def _pictures(self, found: dict[str, Origin]) -> dict[str, Origin]:
        """The files that hold the crops of the manifest."""
        names = {located(crop)[0] for crop in read_manifest(self._folder).columns["crop"]}
        if odd := sorted(name for name in names if not name.startswith(_PICTURES)):
            raise DataError(
                f"{MANIFEST} in {self._url} names files that no extraction writes ({some(odd)}): extract again"
            )
        if absent := sorted(names.difference(found)):
            raise DataError(
                f"{len(absent)} files of crops are not in {self._url} ({some(absent)}): run the same 'dfpipe extract' or "
                "'dfpipe pack' again"
            )
        return {name: found[name] for name in sorted(names)}

    def _is_here(self, name: str, origin: Origin) -> bool:
        if self._here.get(name) != _print(origin):
            return False
        try:
            return (self._folder / name).stat().st_size == origin.size
        except OSError:
            return False

    def _fetch(self, wanted: dict[str, Origin]) -> bool:
        """Copies those that are not here. Returns whether there were any."""
        todo = {name: origin for name, origin in wanted.items() if not self._is_here(name, origin)}
        if not todo:
            return False
        self._take_alone()
        size = sum(origin.size for origin in todo.values())
        self._check_space(size)
        log.info("copying %d files, %s, from %s to %s", len(todo), _bytes(size), self._url, self._folder)
        silent = not (sys.stderr.isatty() and log.isEnabledFor(logging.INFO))
        with tqdm(total=size, desc="copy", unit="B", unit_scale=True, leave=False, disable=silent) as bar:
            for name in self._arrivals(todo):
                bar.update(todo[name].size)
        return True

    def _arrivals(self, todo: dict[str, Origin]) -> Iterator[str]:
        """Copies files, many at a time; each counts once it is whole, also if another fails or Ctrl-C comes."""
        stop = Event()
        coming: dict[Future[None], str] = {}
        names = iter(todo)
        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="dfpipe-copy") as threads:
            try:
                while True:
                    for name in itertools.islice(names, _AHEAD - len(coming)):
                        coming[threads.submit(_fetch, todo[name], self._folder / name, stop)] = name
                    if not coming:
                        return
                    for future in wait(coming, return_when=FIRST_COMPLETED).done:
                        future.result()
                        name = coming.pop(future)
                        self._note(name, todo[name])
                        yield name
            finally:
                stop.set()
                threads.shutdown(cancel_futures=True)
                for future, name in coming.items():
                    if not future.cancelled() and future.exception() is None:
                        self._note(name, todo[name])

    def _note(self, name: str, origin: Origin) -> None:
        self._here[name] = _print(origin)
        self._fetched.record(name, _print(origin), {})

    def _take_alone(self) -> None:
        """Before anything here is changed: nobody else may be working with it."""
        if self._alone:
            return
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{self._url} has changed, and another command is working with its copy in {self._folder}: wait for it, "
                f"or name another folder for copies in {VARIABLE}"
            ) from error
        self._alone = True

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise ResourceError(
                f"{_bytes(size)} are to be copied from {self._url}, and {self._folder} has {_bytes(free)} free: free some, "
                f"or name another folder for copies in {VARIABLE}"
            )

    def _forget_others(self, wanted: Iterable[str]) -> None:
        """Removes what the store's manifest does not name any more."""
        if self._alone:
            for name in self._here.keys() - set(wanted):
                (self._folder / name).unlink(missing_ok=True)


def _fetch(origin: Origin, path: Path, stop: Event) -> None:
    try:
        with atomic_file(path) as temporary:
            copy(origin, temporary, stop)
    except MediaError as error:
        raise ResourceError(f"{origin.url} {error}; what was copied whole is kept") from error


def _print(origin: Origin) -> str:
    return f"{origin.size}|{origin.stamp}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
