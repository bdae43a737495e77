"""Ctrl-C and SIGTERM: the first stops cleanly, the second at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM)
_TOLD = b"\nstopping: what is finished is kept; once more ends at once\n"


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as when a machine shuts down or a scheduler's time is up. Whoever handles Ctrl-C handles it too."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Lets the first signal raise KeyboardInterrupt or `Terminated`, and the second end the process where it is.

    Children need no word: they die with their parent, see `dfpipe.sandbox`. A signal that was ignored before stays so,
    as for programs in the background of a shell.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {which: signal.getsignal(which) for which in STOPS}
    _came.clear()
    for which, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(which, _first)
    try:
        yield
    except KeyboardInterrupt as error:  # a library that waits in C may raise its own in place of ours, as Ray does
        if signal.SIGTERM in _came and not isinstance(error, Terminated):
            raise Terminated from error
        raise
    finally:
        for which, handler in before.items():
            if signal.getsignal(which) is _first:  # after a first signal the second ends at once, to the very end
                signal.signal(which, handler)


def as_usual() -> None:
    """Undoes `stoppable`, for a server that has ways of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


_came: set[int] = set()  # signals


def _first(number: int, _: FrameType | None) -> None:
    _came.add(number)
    for which in STOPS:
        signal.signal(which, _second)
    with contextlib.suppress(OSError):
        os.write(2, _TOLD)  # print() may be what was interrupted
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _second(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
