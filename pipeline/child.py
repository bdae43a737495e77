"""Inside a process of `dfpipe.pool`: it prepares itself, then works on one input after the other until its pipe closes.

What it sends: `READY`, or what its set-up failed with; then for each input `Allow`, as often as the task asks for time,
and at last `Done`.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from dfpipe.config import LimitsConfig
from dfpipe.errors import DfpipeError, MediaCrashed, TooLargeMedia
from dfpipe.sandbox import die_with_parent, give_back_memory, limit_cpu, limit_files, limit_memory, resident, seal

READY = "ready"
KEPT = 512_000_000  # bytes that a child keeps from one input to the next: twice what a clip of 1080p leaves


@dataclass(frozen=True, slots=True)
class Allow:
    """The task may take so long in all."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an input: a result, or the error that stands for one."""

    outcome: Any


_pipe: Connection | None = None  # to the parent, if this is a child


def allow(seconds: float) -> None:
    """Says, from inside a task, how much wall time its input may take in all; what was said last does not lower it.

    Outside of a child it does nothing.
    """
    if _pipe is not None:
        limit_cpu(seconds)
        _pipe.send(Allow(seconds))


def is_child() -> bool:
    """Whether this process is one of those: what it parses is isolated already."""
    return _pipe is not None


def serve(
    pipe: Connection,
    task: Callable[[Any], Any],
    start: Callable[[], None],
    bounds: LimitsConfig,
    parent: int,
    folder: str,
) -> None:
    """The whole life of a child.

    Args:
        pipe: To the parent, which sends inputs.
        task: What is done with each.
        start: Called once, to load networks; it is ours and trusted, the bounds hold after it.
        bounds: What one input may cost.
        parent: Process id; the child dies with it.
        folder: For its temporary files; whoever started it empties it.
    """
    global _pipe
    os.setsid()  # a group of its own, which is killed as a whole; Ctrl-C at the terminal goes to the parent alone
    die_with_parent(parent)
    _silence()
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        start()
        _limit_threads()
    except BaseException as error:  # whatever it is, the parent must hear of it
        try:
            pipe.send(error)
        except Exception:  # not every error can be sent
            pipe.send(DfpipeError(f"{type(error).__name__}: {error}"))
        return
    limit_files(bounds.file_gb)
    seal()
    _pipe = pipe
    loaded = resident()
    pipe.send(READY)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        limit_memory(bounds.memory_gb)
        limit_cpu(bounds.seconds)
        _send(pipe, _outcome(task, item, bounds))
        give_back_memory(loaded + KEPT)


def _outcome(task: Callable[[Any], Any], item: Any, bounds: LimitsConfig) -> Any:
    try:
        return task(item)
    except DfpipeError as error:
        return error
    except (
        MemoryError,
        SystemExit,
        Exception,
    ) as error:  # a bug met on one input must not stop the other hundred thousand
        if _is_memory(error):
            return TooLargeMedia(f"needs more memory than {bounds.named('memory_gb')}")
        return _bug(error)


def _is_memory(error: BaseException) -> bool:
    """Torch and OpenCV have no class for it."""
    told = str(error)
    return isinstance(error, MemoryError) or "can't allocate memory" in told or "Insufficient memory" in told


def _bug(error: BaseException) -> MediaCrashed:
    return MediaCrashed(f"internal error, please report it: {type(error).__name__}: {error}")


def _send(pipe: Connection, outcome: Any) -> None:
    try:
        pipe.send(Done(outcome))
    except (BrokenPipeError, ConnectionResetError):
        raise  # nobody wants it any more
    except Exception as error:  # what cannot be pickled; nothing of it was sent then
        pipe.send(
            Done(
                TooLargeMedia("its result needs more memory than there is: try --workers 1")
                if _is_memory(error)
                else _bug(error)
            )
        )


def _silence() -> None:
    """Decoders write their complaints to the terminal from C; the reason of a failure travels as an exception."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)


def _limit_threads() -> None:
    """The children share the cores among them. A task that needs no such library does not wait for it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(1)
