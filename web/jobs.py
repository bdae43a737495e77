"""The jobs: one row per uploaded file in SQLite, and every change of a job's state.

    queued -> running -> done | failed
       ^---------'  its worker died, or the service was stopped

The server and its worker process each hold a store on the same file. A row is written after its upload is in place and
before anything of it is deleted, so whatever happens, a start finds either a whole job or files that belong to none.
"""

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfpipe.errors import DfpipeError, ResourceError, UsageError
from dfpipe.files import disk_errors

STATES = ("queued", "running", "done", "failed")
ID_BYTES = 16  # 128 random bits: an id cannot be guessed
MAX_TRIES = 2  # the worker's death may be the machine's fault once
LOCK_S = 10.0  # for which a writer waits for another; each holds the lock for milliseconds
DAY_S = 86_400.0

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    content_type TEXT NOT NULL,
    overlay INTEGER NOT NULL,
    state TEXT NOT NULL,
    stage TEXT,
    progress REAL,
    tries INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    verdict TEXT,
    p_fake REAL,
    reason TEXT NOT NULL DEFAULT '',
    error TEXT,
    reused INTEGER NOT NULL DEFAULT 0,
    settings TEXT NOT NULL DEFAULT '',
    overlay_file TEXT
);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, seq);
CREATE INDEX IF NOT EXISTS jobs_content ON jobs (sha256, settings);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value REAL NOT NULL);
"""

Row = dict[str, Any]


class QueueFull(DfpipeError):
    """As many jobs wait as may wait."""


@dataclass(frozen=True)
class NewJob:
    """A file that was received whole."""

    id: str
    name: str  # for reading only
    size: int  # bytes
    sha256: str
    content_type: str  # by content
    overlay: bool  # whether the clip is wanted with boxes


@dataclass(frozen=True)
class Outcome:
    """What was found of a job that is done."""

    verdict: str
    p_fake: float | None
    reason: str
    settings: str  # a hash of all that shaped it
    overlay_file: str | None = None
    reused: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which jobs to list; None and "" = all."""

    state: str | None = None
    verdict: str | None = None
    text: str = ""  # part of the name, or the beginning of the SHA-256


def new_id() -> str:
    """A random id."""
    return secrets.token_hex(ID_BYTES)


class JobStore:
    """The jobs of one service. May be used from several threads.

    Args:
        path: Of the SQLite file; made if it is not there.
        queue: Jobs that may wait at once.

    Raises:
        UsageError: Damaged, or written by another version.
    """

    def __init__(self, path: Path, queue: int) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_S)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            # FULL: a job that was answered with 202 survives a power cut too. Jobs are few, so the syncs cost nothing.
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise UsageError(f"{path} was written by another version of dfpipe: choose another --out")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{path} cannot be used ({error}): choose another --out, or delete it") from error

    def close(self) -> None:
        """Flushes and closes the file."""
        with self._lock:
            self._db.close()

    # ---- the server's side -------------------------------------------------------------------------------------------

    def add(self, jobs: list[NewJob], now: float | None = None) -> None:
        """Puts jobs at the end of the queue: all of them, or none.

        Raises:
            QueueFull: There is no room for all.
            ResourceError: The disk is full.
        """
        with self._writing() as db:
            waiting = self._count(db, "queued")
            if waiting + len(jobs) > self._queue:
                raise QueueFull(f"{waiting} jobs wait already and {self._queue} may: try again later")
            db.executemany(
                "INSERT INTO jobs (id, name, bytes, sha256, content_type, overlay, state, created) "
                "VALUES (?, ?, ?, ?, ?, ?, 'queued', ?)",
                [(j.id, j.name, j.size, j.sha256, j.content_type, j.overlay, _at(now)) for j in jobs],
            )
            self._add_to(db, "uploaded_bytes", sum(job.size for job in jobs))
            self._add_to(db, "uploaded_files", len(jobs))

    def get(self, job_id: str) -> Row | None:
        """One job with its `place` in the queue, 1 = next; None where there is none."""
        rows = self._rows(f"SELECT *, {_PLACE} FROM jobs WHERE id = ?", (job_id,))
        return rows[0] if rows else None

    def find(self, wanted: Wanted, limit: int, offset: int) -> tuple[list[Row], int]:
        """Jobs, newest first, and how many there are in all.

        Args:
            wanted: Which.
            limit: At most so many.
            offset: So many of the newest are left out.
        """
        where, values = _where(wanted)
        rows = self._rows(
            f"SELECT *, {_PLACE} FROM jobs {where} ORDER BY seq DESC LIMIT ? OFFSET ?", (*values, limit, offset)
        )
        total = self._rows(f"SELECT COUNT(*) AS n FROM jobs {where}", tuple(values))[0]["n"]
        return rows, total

    def delete(self, job_id: str) -> bool:
        """Forgets a job, whatever its state. Its files are the caller's to remove. Returns whether there was one."""
        with self._writing() as db:
            return db.execute("DELETE FROM jobs WHERE id = ?", (job_id,)).rowcount == 1

    def expire(self, keep_days: float, now: float | None = None) -> list[str]:
        """Forgets what ended longer than so many days ago. Returns the ids."""
        with self._writing() as db:
            rows = db.execute(
                "DELETE FROM jobs WHERE state IN ('done', 'failed') AND ended < ? RETURNING id",
                (_at(now) - keep_days * DAY_S,),
            ).fetchall()
        return [row["id"] for row in rows]

    def waiting(self) -> int:
        """How many jobs wait."""
        with self._lock:
            return self._count(self._db, "queued")

    def ids(self, state: str | None = None) -> set[str]:
        """The ids of all jobs, or of those in one state."""
        where, values = _where(Wanted(state))
        return {row["id"] for row in self._rows(f"SELECT id FROM jobs {where}", tuple(values))}

    # ---- the worker's side -------------------------------------------------------------------------------------------

    def claim(self, now: float | None = None) -> Row | None:
        """Takes the job that waits longest; None if none waits."""
        if not self.waiting():  # without a write, ten times in a second
            return None
        with self._writing() as db:
            row = db.execute(
                "UPDATE jobs SET state = 'running', stage = 'reading', progress = 0, tries = tries + 1, started = ? "
                "WHERE seq = (SELECT MIN(seq) FROM jobs WHERE state = 'queued') RETURNING *",
                (_at(now),),
            ).fetchone()
        return dict(row) if row is not None else None

    def exists(self, job_id: str) -> bool:
        """Whether nobody deleted it."""
        return bool(self._rows("SELECT 1 FROM jobs WHERE id = ?", (job_id,)))

    def progress(self, job_id: str, stage: str, share: float) -> None:
        """Notes how far the work on a job has come."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET stage = ?, progress = ? WHERE id = ? AND state = 'running'", (stage, share, job_id)
            )

    def twin(self, sha256: str, settings: str) -> Row | None:
        """A finished job of the same bytes, judged with the same model and settings. Failures are never taken over."""
        rows = self._rows(
            "SELECT * FROM jobs WHERE sha256 = ? AND settings = ? AND state = 'done' AND verdict != 'ERROR' "
            "ORDER BY reused, seq LIMIT 1",
            (sha256, settings),
        )
        return rows[0] if rows else None

    def finish(self, job_id: str, outcome: Outcome, now: float | None = None) -> bool:
        """Ends a job with its verdict. Returns False if it was deleted meanwhile."""
        at = _at(now)
        with self._writing() as db:
            row = db.execute(
                "UPDATE jobs SET state = 'done', stage = NULL, progress = 1, error = NULL, ended = :ended, "
                "verdict = :verdict, p_fake = :p_fake, reason = :reason, settings = :settings, "
                "overlay_file = :overlay_file, reused = :reused WHERE id = :id AND state = 'running' RETURNING started",
                {**asdict(outcome), "ended": at, "id": job_id},
            ).fetchone()
            if row is None:
                return False
            self._add_to(db, f"verdict_{outcome.verdict}", 1)
            if outcome.reused:
                self._add_to(db, "reused", 1)
            else:
                self._add_to(db, "judging_seconds", at - row["started"])
                self._add_to(db, "judged", 1)
        return True

    def fail(self, job_id: str, error: str, now: float | None = None) -> None:
        """Ends a job that the service could not finish, with the reason."""
        with self._writing() as db:
            self._fail(db, [job_id], error, now)

    # ---- when things break -------------------------------------------------------------------------------------------

    def recover(self, why: str, now: float | None = None) -> None:
        """Puts the job that a dead worker was at back at its place, or ends it if that happened before.

        Args:
            why: What became of the worker; stands in the job's error.
            now: s since 1970.
        """
        with self._writing() as db:
            gone = [
                row["id"]
                for row in db.execute("SELECT id FROM jobs WHERE state = 'running' AND tries >= ?", (MAX_TRIES,))
            ]
            self._fail(db, gone, f"{why}, {MAX_TRIES} times: this file was given up", now)
            self._requeue(db, "tries")
            self._add_to(db, "worker_starts", 1)

    def hand_back(self) -> None:
        """Puts the job that is being worked on back at its place, as if it had not been begun: the service stops."""
        with self._writing() as db:
            self._requeue(db, "tries - 1")

    def counters(self) -> dict[str, float]:
        """All counters. They only grow, across restarts too."""
        return {row["name"]: row["value"] for row in self._rows("SELECT name, value FROM counters")}

    def by_state(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        found = {row["state"]: row["n"] for row in self._rows("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state")}
        return {state: found.get(state, 0) for state in STATES}

    # ---- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other writer comes between."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise ResourceError(
                    f"the jobs cannot be written ({error}): free disk space, and start again"
                ) from error

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Row]:
        with self._lock:
            return [dict(row) for row in self._db.execute(query, values).fetchall()]

    @staticmethod
    def _count(db: sqlite3.Connection, state: str) -> int:
        count: int = db.execute("SELECT COUNT(*) FROM jobs WHERE state = ?", (state,)).fetchone()[0]
        return count

    @staticmethod
    def _add_to(db: sqlite3.Connection, name: str, value: float) -> None:
        db.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, value),
        )

    @staticmethod
    def _requeue(db: sqlite3.Connection, tries: str) -> None:
        db.execute(
            f"UPDATE jobs SET state = 'queued', stage = NULL, progress = NULL, started = NULL, tries = {tries} "
            "WHERE state = 'running'"
        )

    def _fail(self, db: sqlite3.Connection, ids: list[str], error: str, now: float | None) -> None:
        for job_id in ids:
            changed = db.execute(
                "UPDATE jobs SET state = 'failed', stage = NULL, progress = NULL, ended = ?, error = ? "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (_at(now), error, job_id),
            ).rowcount
            self._add_to(db, "failed", changed)


_PLACE = (
    "CASE WHEN state = 'queued' THEN (SELECT COUNT(*) FROM jobs AS before WHERE before.state = 'queued' "
    "AND before.seq <= jobs.seq) END AS place"
)


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    """The condition of a query, and its values."""
    conditions: list[str] = []
    values: list[Any] = []
    for column, value in (("state", wanted.state), ("verdict", wanted.verdict)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.text:
        escaped = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("(name LIKE ? ESCAPE '\\' OR sha256 LIKE ? ESCAPE '\\')")
        values += [f"%{escaped}%", f"{escaped}%"]
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _at(now: float | None) -> float:
    return time.time() if now is None else now
