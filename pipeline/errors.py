"""Every error that dfpipe raises on purpose, with the exit code that the command line gives it.

    DfpipeError                 1
    +-- UsageError              2   a wrong flag, path or name
    |   +-- ConfigError         2   a config file or --set that says something impossible
    |   +-- SourceError         2   nothing usable where media or crops were expected
    |   +-- DataError           2   crops and manifest are there but cannot be trained on
    |       +-- LeakError       2   one source group in two splits
    +-- InputsFailed            3   some inputs failed, all others are done
    +-- MediaError              3   one input cannot be read; carries the state it ends in
    |   +-- UnsupportedMedia, CorruptMedia, TooLargeMedia, UnreadableMedia, MediaTimeout, MediaCrashed
    +-- ModelFileError          4   a model file is missing or refused
    +-- ResourceError           5   out of disk or memory; finished work is intact
    +-- Interrupted           130   stopped by Ctrl-C (143: by SIGTERM); finished work is intact

A message says what is wrong and what to do about it, in one line of bounded length, whatever a file or another library
put into it.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from dfpipe.types import State

T = TypeVar("T")

MAX_MESSAGE = 2000  # characters: more than any person reads, and the size of a line in reports and tables
_KEPT_AT_END = 300  # of them: what to do about it stands at the end


class DfpipeError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_line(message))


class UsageError(DfpipeError):
    """The command was asked for something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file, recipe name or --set is wrong."""


class SourceError(UsageError):
    """Nothing usable was found where media or crops were expected."""


class DataError(UsageError):
    """Crops and manifest are there, but training on them is impossible or would be dishonest."""


class LeakError(DataError):
    """One source group sits in more than one split."""


class InputsFailed(DfpipeError):
    """At least one input failed; all others are done."""

    exit_code = 3


class MediaError(DfpipeError):
    """One input cannot be read. `state` is the terminal state it ends in."""

    exit_code = 3
    state = State.CORRUPT


class UnsupportedMedia(MediaError):
    """Not a kind of file that we read."""

    state = State.UNSUPPORTED


class CorruptMedia(MediaError):
    """A known kind of file out of which nothing can be saved."""

    state = State.CORRUPT


class TooLargeMedia(MediaError):
    """Over one of the limits that keep memory and time bounded."""

    state = State.TOO_LARGE


class UnreadableMedia(MediaError):
    """The file system does not give us the bytes."""

    state = State.UNREADABLE


class MediaTimeout(MediaError):
    """The work on one input took longer than allowed and was killed."""

    state = State.TIMEOUT


class MediaCrashed(MediaError):
    """The process that worked on one input died."""

    state = State.CRASHED


class ModelFileError(DfpipeError):
    """A model file is missing, damaged, or not one of ours."""

    exit_code = 4


class ResourceError(DfpipeError):
    """Out of disk or memory; what was finished before is intact."""

    exit_code = 5


class Interrupted(DfpipeError):
    """Stopped by the user or the system; what was finished before is intact."""

    exit_code = 130


def _one_line(message: str) -> str:
    """Line breaks as spaces, and the middle of what is too long left out."""
    line = " ".join(message.split()) if "\n" in message or "\r" in message else message
    if len(line) <= MAX_MESSAGE:
        return line
    return f"{line[: MAX_MESSAGE - _KEPT_AT_END - 5]} ... {line[-_KEPT_AT_END:]}"


def reason_of(error: OSError | ValueError) -> str:
    """Why a text file cannot be read, without the file's name, which the message has already."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text in UTF-8"


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """Looks up a name that a person typed.

    Raises:
        ConfigError: The name is not in the table; the message lists the names that are.
    """
    if name in table:
        return table[name]
    raise ConfigError(f"unknown {what} {name!r}{did_you_mean(name, table)}; there are: {', '.join(sorted(table))}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ' (did you mean ...?)' for a near miss, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
