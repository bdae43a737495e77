"""Inside an actor of Ray, on any node: it hands one input after the other to a child of its own that can be killed.

What passes through is bytes: only the child and the driver know what an input or a result is. So an actor is small and
there in a fraction of a second, unless something is to be done in it, as scoring.
"""

import contextlib
import functools
import os
import pickle
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dfpipe import __version__
from dfpipe.config import LimitsConfig
from dfpipe.pool import Pool


@dataclass(frozen=True, slots=True)
class Failed:
    """No input can succeed here: the child cannot start, or its set-up failed."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Unseen:
    """This node does not see a file that the driver sees."""


class InActor(Protocol):
    """What is done with every result of a child in the actor that has the child; it is pickled to get there."""

    def prepare(self) -> None:
        """Loads what it needs, as a network, while the first child starts."""

    def __call__(self, result: Any) -> Any:
        """What goes to the driver instead of the result."""


class Worker:
    """The actor.

    Args:
        work: From `packed`.
        in_actor: An `InActor`, pickled.
        bounds: What one input may cost.
        folder: The driver's working directory, to which relative paths refer; nothing happens where this node has none.
    """

    def __init__(self, work: bytes, in_actor: bytes | None, bounds: LimitsConfig, folder: str) -> None:
        sys.modules["__main__"].__file__ = None  # Ray's own script: every child would import it, and Ray with it
        with contextlib.suppress(OSError):
            os.chdir(folder)
        self._in_actor: InActor | None = pickle.loads(in_actor) if in_actor is not None else None
        self._exits = contextlib.ExitStack()
        self._pool = self._exits.enter_context(Pool(_work, functools.partial(_start, work), bounds, 1))

    def introduce(self) -> tuple[str, str]:
        """Name of the node, version of dfpipe."""
        return platform.node(), __version__

    def work(self, item: bytes, path: str | None) -> Any:
        """What became of one input: the pickled result, or the error that stands for one; `Failed`, or `Unseen`.

        Args:
            item: The input, pickled.
            path: A file that must be there, as the driver sees it.
        """
        if path is not None and not os.path.exists(path):
            return Unseen()
        self._pool.give(item)
        try:
            if self._in_actor is not None:
                self._in_actor.prepare()
            while not (results := self._pool.results(block=True)):
                pass
            answer = results[0][1]
            if self._in_actor is not None and isinstance(answer, bytes):
                return pickle.dumps(self._in_actor(pickle.loads(answer)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return Failed(error)
        return answer

    def close(self) -> None:
        """Ends the child and removes its files."""
        self._exits.close()


def packed(task: Callable[[Any], Any], setup: Callable[[], None]) -> bytes:
    """The work of a run, for `Worker`."""
    return pickle.dumps((task, setup))


# ---- in the child of the actor ---------------------------------------------------------------------------------------

_task: Callable[[Any], Any]


def _start(work: bytes) -> None:
    global _task
    _task, setup = pickle.loads(work)
    setup()


def _work(item: bytes) -> bytes:
    return pickle.dumps(_task(pickle.loads(item)), pickle.HIGHEST_PROTOCOL)
