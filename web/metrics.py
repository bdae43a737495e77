"""Figures for Prometheus, in its text format."""

from collections.abc import Iterator, Mapping

from dfpipe.types import VerdictKind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# name -> (counter of the store, help)
_COUNTERS = {
    "dfpipe_judged_total": ("judged", "Jobs that were judged."),
    "dfpipe_judging_seconds_total": ("judging_seconds", "Seconds spent on them."),
    "dfpipe_reused_total": ("reused", "Jobs answered with the results of an earlier one."),
    "dfpipe_failed_total": ("failed", "Jobs that the service could not finish."),
    "dfpipe_uploaded_bytes_total": ("uploaded_bytes", "Bytes of all files that were taken."),
    "dfpipe_uploaded_files_total": ("uploaded_files", "Files that were taken."),
    "dfpipe_worker_starts_total": (
        "worker_starts",
        "Times that the worker was started: with the service, and after each of its deaths.",
    ),
}


def text(counters: Mapping[str, float], by_state: Mapping[str, int], receiving: int, ready: bool) -> str:
    """The page that Prometheus reads.

    Args:
        counters: From the store.
        by_state: How many jobs there are in each state.
        receiving: Uploads that are coming.
        ready: Whether the worker has its model.
    """
    return "\n".join(_lines(counters, by_state, receiving, ready)) + "\n"


def _lines(counters: Mapping[str, float], by_state: Mapping[str, int], receiving: int, ready: bool) -> Iterator[str]:
    for name, (key, what) in _COUNTERS.items():
        yield from _head(name, "counter", what)
        yield f"{name} {counters.get(key, 0):.12g}"
    yield from _head("dfpipe_verdicts_total", "counter", "Verdicts given, reused ones too.")
    for kind in VerdictKind:
        yield f'dfpipe_verdicts_total{{verdict="{kind}"}} {counters.get(f"verdict_{kind}", 0):.12g}'
    yield from _head("dfpipe_jobs", "gauge", "Jobs that are kept.")
    for state, count in by_state.items():
        yield f'dfpipe_jobs{{state="{state}"}} {count}'
    yield from _head("dfpipe_uploads_coming", "gauge", "Uploads that are being received.")
    yield f"dfpipe_uploads_coming {receiving}"
    yield from _head("dfpipe_ready", "gauge", "1 if the worker has loaded its model.")
    yield f"dfpipe_ready {int(ready)}"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
