"""How the system shares out processor time to a thread."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Gives the thread back its place afterwards.

    The encoder libsvtav1 makes whoever calls it a real-time thread if it may, as for root. Everything that this thread then
    starts is one too, and on two cores the rest of the machine starves.
    """
    if not hasattr(os, "sched_setscheduler"):  # elsewhere than on Linux
        yield
        return
    policy, priority, cores = os.sched_getscheduler(0), os.sched_getparam(0), os.sched_getaffinity(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)
        os.sched_setaffinity(0, cores)
