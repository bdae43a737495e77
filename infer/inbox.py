"""A folder into which files keep coming: which of them are complete."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import SourceError
from dfpipe.infer.inputs import Upload, contents, walk
from dfpipe.infer.verdicts import Facts

EVERY_S = 2.0  # between two looks
SETTLE_S = 5.0  # for which a file must not have changed: copying over a network pauses for a second or two
# How browsers and copying programs call what they have not finished.
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart", ".opdownload", ".tmp", ".aria2")


class Inbox:
    """Hands out the files of a folder, and of all folders below it, once they are complete.

    A file is complete when its size and time of change have stayed as they are for a while. One that changes later is
    handed out again. What is no media is passed over.

    Args:
        folder: Where files come.
        skip: A folder that is left out: that of the verdicts.
        every: s between two looks.
        settle: s for which a file must not have changed.
        limits: What an archive may hold, and what listing one may cost.

    Raises:
        SourceError: No such folder.
    """

    def __init__(
        self,
        folder: Path,
        skip: Path | None = None,
        every: float = EVERY_S,
        settle: float = SETTLE_S,
        limits: LimitsConfig | None = None,
    ) -> None:
        if not folder.is_dir():
            raise SourceError(f"no such folder: {folder}")
        self._folder, self._skip = folder, skip.resolve() if skip is not None else None
        self._every, self._settle = every, settle
        self._limits = limits or LimitsConfig()
        self._since: dict[Path, tuple[Facts, float]] = {}  # how each file looks, and since when
        self._done: dict[Path, Facts] = {}  # how each file looked when it was handed out

    def arrivals(self, ended: Callable[[], bool] = lambda: False) -> Iterator[Upload | None]:
        """Complete files as they come; None after each look, see `dfpipe.workers.run_all`.

        Args:
            ended: Asked before each look; True ends it.
        """
        while not ended():
            yield from self.look(time.monotonic())
            time.sleep(self._every)
            yield None

    def look(self, now: float) -> Iterator[Upload]:
        """The files that are complete and were not handed out yet.

        Args:
            now: s on a clock that never goes back.
        """
        there: set[Path] = set()
        complete: list[tuple[Path, bool]] = []
        for file in walk(self._folder, self._skip):
            facts = Facts.of(Upload(file))
            if facts is None or file.name.lower().endswith(UNFINISHED):
                continue
            there.add(file)
            known, since = self._since.get(file, (None, now))
            if known != facts:
                self._since[file] = (facts, now)
            elif now - since >= self._settle and self._done.get(file) != facts:
                self._done[file] = facts
                complete.append((file, False))
        for gone in self._since.keys() - there:
            del self._since[gone]
            self._done.pop(gone, None)
        yield from (upload for upload, media in contents(complete, self._limits) if media)
