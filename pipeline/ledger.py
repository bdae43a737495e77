"""The ledger: one row per input with ONE terminal state and a reason. A run resumes from it."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dfpipe.errors import ResourceError, UsageError, choose
from dfpipe.files import disk_errors
from dfpipe.types import State

LEDGER = "ledger.sqlite"  # its name in an output folder
_SCHEMA_VERSION = 1
_PUBLISHED = "published"
# By the database itself, so that no version of dfpipe can forget it.
_FORGET = (
    "CREATE TRIGGER IF NOT EXISTS forget AFTER INSERT ON inputs BEGIN "
    f"DELETE FROM notes WHERE name = '{_PUBLISHED}'; END"
)


def check_states(redo: Iterable[str]) -> None:
    """Refuses what is no state in which an input can end.

    Raises:
        ConfigError: There is no such state.
    """
    known = {str(state): state for state in State}
    for state in redo:
        choose(known, state, "--redo state")


class Ledger:
    """Finished inputs of one output folder, in SQLite. A row is there only when everything it names is in place."""

    def __init__(self, path: Path) -> None:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA_VERSION):
                raise UsageError(f"{path} was written by another version of dfpipe: choose another --out")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS inputs (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, row TEXT NOT NULL)"
            )
            self._db.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT NOT NULL)")
            self._db.execute(_FORGET)
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            if _is_of_the_disk(error):
                raise ResourceError(
                    f"{path} cannot be written ({error}): free disk space, and run the same command again"
                ) from error
            raise UsageError(
                f"{path} is damaged ({error}): delete it to start this folder anew, or choose another --out"
            ) from error

    def fingerprints(self) -> dict[str, str]:
        """What each finished input looked like: key to fingerprint."""
        return dict(self._db.execute("SELECT key, fingerprint FROM inputs"))

    def record(self, key: str, fingerprint: str, row: dict[str, Any]) -> None:
        """Notes that an input is finished, replacing what was known of it.

        Raises:
            ResourceError: The disk is full.
        """
        self._write(
            "INSERT OR REPLACE INTO inputs VALUES (?, ?, ?)", key, fingerprint, json.dumps(row, allow_nan=False)
        )

    def record_all(self, inputs: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        """As `record` for many inputs (key, fingerprint, row), all of them or none.

        Raises:
            ResourceError: The disk is full.
        """
        self._write("BEGIN")
        try:
            for key, fingerprint, row in inputs:
                self.record(key, fingerprint, row)
            self._write("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write(self, statement: str, *values: str) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise ResourceError(
                f"the ledger cannot be written ({error}): free disk space, and run the same command again"
            ) from error

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All finished inputs in the order of their keys."""
        for key, row in self._db.execute("SELECT key, row FROM inputs ORDER BY key"):
            yield key, json.loads(row)

    def check_kind(self, mark: str, where: object) -> None:
        """Refuses a ledger that another kind of command wrote.

        Args:
            mark: A name that stands in every row of the kind that is wanted.
            where: The folder, for people.

        Raises:
            UsageError: There are inputs, and they lack it.
        """
        _, row = next(self.rows(), (None, {mark: None}))
        if mark not in row:
            raise UsageError(f"{where} holds the results of another dfpipe command: choose another --out")

    def texts(self) -> Iterator[str]:
        """All finished inputs in the order of their keys, as the JSON that they are kept as."""
        return (text for (text,) in self._db.execute("SELECT row FROM inputs ORDER BY key"))

    def values(self, key: str, *names: str) -> tuple[Any, ...] | None:
        """Some plain values of one input's row, without reading all of it; None if it is not finished."""
        wanted = ", ".join("json_extract(row, ?)" for _ in names)
        found = self._db.execute(f"SELECT {wanted} FROM inputs WHERE key = ?", (*(f"$.{n}" for n in names), key))
        values: tuple[Any, ...] | None = found.fetchone()
        return values

    def row(self, key: str) -> dict[str, Any] | None:
        """What is known of one input; None if it is not finished."""
        found = self._db.execute("SELECT row FROM inputs WHERE key = ?", (key,)).fetchone()
        row: dict[str, Any] | None = json.loads(found[0]) if found is not None else None
        return row

    def note(self, name: str) -> str | None:
        """What was noted under a name."""
        found = self._db.execute("SELECT text FROM notes WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def notes(self) -> list[tuple[str, str]]:
        """All that was noted, by name, but not what `publish` was told: that is of this folder alone."""
        return list(self._db.execute("SELECT name, text FROM notes WHERE name != ? ORDER BY name", (_PUBLISHED,)))

    def write_note(self, name: str, text: str) -> None:
        """Notes something that is no input, replacing what stood under that name.

        Raises:
            ResourceError: The disk is full.
        """
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", name, text)

    @property
    def published(self) -> str | None:
        """What `publish` was last told; None if an input was recorded since then."""
        return self.note(_PUBLISHED)

    def publish(self, text: str) -> None:
        """Notes that all rows were written elsewhere, in the words of whoever did it."""
        self.write_note(_PUBLISHED, text)

    @property
    def changes(self) -> int:
        """How many times something was noted since this was opened."""
        return self._db.total_changes

    def copy(self, path: Path) -> None:
        """Writes all of it as it stands now to a new file.

        Raises:
            ResourceError: The disk is full.
        """
        path.unlink(missing_ok=True)
        self._write("VACUUM INTO ?", str(path))

    def close(self) -> None:
        """Flushes and closes the file."""
        self._db.close()


def _is_of_the_disk(error: sqlite3.Error) -> bool:
    """Whether SQLite met a full disk or one that fails: to it, a file that may not grow is an input/output error."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR"))
