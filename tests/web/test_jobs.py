"""The job store: every change of state, without a server."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dfpipe.errors import UsageError
from dfpipe.web.jobs import DAY_S, JobStore, NewJob, Outcome, QueueFull, Wanted, new_id
from dfpipe.web.settings import Settings
from dfpipe.web.supervisor import remove_expired

REAL = Outcome("REAL", 0.1, "no sign", "settings")


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs.sqlite", queue=3)


def job(name: str = "a.mp4", sha256: str = "aa") -> NewJob:
    return NewJob(new_id(), name, 10, sha256, "video/mp4", overlay=False)


def added(store: JobStore, *jobs: NewJob, now: float = 0.0) -> list[str]:
    store.add(list(jobs), now)
    return [one.id for one in jobs]


def state(store: JobStore, job_id: str) -> str:
    row = store.get(job_id)
    assert row is not None
    return str(row["state"])


def test_ids_are_random_and_long() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) * 4 >= 128 and one.isalnum() for one in ids)


def test_jobs_are_taken_in_their_order_and_keep_their_places(store: JobStore) -> None:
    first, second, third = added(store, job(), job(), job())
    assert [store.get(one)["place"] for one in (first, second, third)] == [1, 2, 3]  # type: ignore[index]
    claimed = store.claim(now=5)
    assert claimed is not None
    assert (claimed["id"], claimed["state"], claimed["stage"], claimed["started"]) == (first, "running", "reading", 5)
    assert [store.get(one)["place"] for one in (first, second, third)] == [None, 1, 2]  # type: ignore[index]


def test_the_queue_takes_all_of_an_upload_or_none(store: JobStore) -> None:
    added(store, job(), job())
    with pytest.raises(QueueFull):
        store.add([job(), job()])
    assert store.waiting() == 2
    added(store, job())
    with pytest.raises(QueueFull):
        store.add([job()])


def test_two_stores_never_take_more_than_the_queue(tmp_path: Path) -> None:
    stores = [JobStore(tmp_path / "jobs.sqlite", queue=5) for _ in range(4)]

    def add(number: int) -> bool:
        try:
            stores[number % 4].add([job()])
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(40))) == 5
    with ThreadPoolExecutor(8) as pool:
        claimed = [row["id"] for row in pool.map(lambda i: stores[i % 4].claim(), range(8)) if row is not None]
    assert len(claimed) == len(set(claimed)) == 5


def test_a_verdict_ends_a_job_once(store: JobStore) -> None:
    (one,) = added(store, job())
    assert not store.finish(one, REAL)  # not begun
    store.claim(now=1)
    store.progress(one, "scoring", 0.6)
    assert store.get(one)["stage"] == "scoring"  # type: ignore[index]
    assert store.finish(one, REAL, now=3)
    row = store.get(one)
    assert row is not None
    assert (row["state"], row["verdict"], row["p_fake"], row["stage"], row["progress"]) == (
        "done",
        "REAL",
        0.1,
        None,
        1,
    )
    assert not store.finish(one, REAL)
    store.fail(one, "late")
    assert state(store, one) == "done"
    counters = store.counters()
    assert (counters["verdict_REAL"], counters["judged"], counters["judging_seconds"]) == (1, 1, 2)


def test_what_was_deleted_stays_deleted(store: JobStore) -> None:
    (one,) = added(store, job())
    store.claim()
    assert store.exists(one)
    assert store.delete(one)
    assert not store.exists(one)
    assert not store.finish(one, REAL)
    assert not store.delete(one)
    assert store.get(one) is None


def test_a_job_is_tried_twice(store: JobStore) -> None:
    (one,) = added(store, job())
    store.claim()
    store.recover("it died")
    assert state(store, one) == "queued"
    store.claim()
    store.recover("it died")
    row = store.get(one)
    assert row is not None
    assert row["state"] == "failed"
    assert "it died" in row["error"]
    assert store.counters()["failed"] == 1


def test_a_recovered_job_is_next_again(store: JobStore) -> None:
    first, second = added(store, job(), job())
    store.claim()
    store.recover("it died")
    assert store.claim()["id"] == first  # type: ignore[index]
    assert state(store, second) == "queued"


def test_a_clean_stop_costs_no_try(store: JobStore) -> None:
    (one,) = added(store, job())
    for _ in range(5):
        store.claim()
        store.hand_back()
    store.claim()
    store.recover("it died")
    assert state(store, one) == "queued"


def test_only_results_of_the_same_bytes_and_settings_are_taken_over(store: JobStore) -> None:
    one, other = added(store, job(sha256="aa"), job(sha256="bb"))
    assert store.twin("aa", "settings") is None
    store.claim()
    assert store.twin("aa", "settings") is None  # not ended
    store.finish(one, REAL)
    assert store.twin("aa", "settings")["id"] == one  # type: ignore[index]
    assert store.twin("aa", "other settings") is None
    store.claim()
    store.finish(other, Outcome("ERROR", None, "took too long", "settings"))
    assert store.twin("bb", "settings") is None


def test_old_jobs_expire(store: JobStore) -> None:
    old, new, waiting = added(store, job(), job(), job())
    for one, end in ((old, 0.0), (new, DAY_S)):
        store.claim()
        store.finish(one, REAL, now=end)
    assert store.expire(keep_days=1, now=DAY_S) == []
    assert store.expire(keep_days=1, now=DAY_S + 1) == [old]
    assert store.ids() == {new, waiting}
    assert store.expire(keep_days=1, now=99 * DAY_S) == [new]  # what waits never expires


def test_the_files_of_old_jobs_go_with_them(store: JobStore, tmp_path: Path) -> None:
    settings = Settings(tmp_path, keep_days=1)
    old, new = added(store, job(), job())
    for one, end in ((old, 0.0), (new, time.time())):
        store.claim()
        store.finish(one, REAL, now=end)
        settings.uploads.mkdir(exist_ok=True)
        (settings.uploads / one).write_bytes(b"x")
        (settings.results / one).mkdir(parents=True)
        (settings.results / one / "report.html").write_bytes(b"x")
    remove_expired(settings, store)
    assert [path.name for folder in (settings.uploads, settings.results) for path in folder.iterdir()] == [new, new]
    assert store.ids() == {new}


def test_jobs_are_found(store: JobStore) -> None:
    names = ["100%_sure.mp4", "1000_sure.mp4", "Other.MP4"]
    ids = added(store, *(job(name, sha256=str(i) * 4) for i, name in enumerate(names)))
    store.claim()
    store.finish(ids[0], REAL)

    def found(**wanted: str) -> list[str]:
        rows, total = store.find(Wanted(**wanted), limit=10, offset=0)
        assert total == len(rows)
        return [row["name"] for row in rows]

    assert found() == names[::-1]
    assert found(text="100%_") == names[:1]
    assert found(text="other") == names[2:]
    assert found(text="1111") == names[1:2]
    assert found(text="\\") == []
    assert found(text="' OR 1=1 --") == []
    assert found(state="queued") == names[:0:-1]
    assert found(verdict="REAL", state="done") == names[:1]
    rows, total = store.find(Wanted(), limit=1, offset=1)
    assert ([row["name"] for row in rows], total) == (names[1:2], 3)


def test_nothing_is_lost_with_the_process(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite", queue=3)
    (one,) = added(store, job())
    again = JobStore(tmp_path / "jobs.sqlite", queue=3)  # the first one was never closed
    assert state(again, one) == "queued"


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to be one" * 50)
    with pytest.raises(UsageError, match="--out"):
        JobStore(tmp_path / "text.sqlite", queue=3)
    with sqlite3.connect(tmp_path / "new.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(UsageError, match="another version"):
        JobStore(tmp_path / "new.sqlite", queue=3)
