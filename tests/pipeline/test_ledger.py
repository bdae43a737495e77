from pathlib import Path

import pytest

from dfpipe.errors import UsageError
from dfpipe.ledger import Ledger


def test_rows_survive_and_replace_each_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.record("b", "1", {"state": "ok"})
    ledger.record("a", "1", {"state": "corrupt"})
    ledger.record("b", "2", {"state": "no_face", "crop_rows": [1.5, None]})
    ledger.close()
    again = Ledger(tmp_path / "l.sqlite")
    assert again.fingerprints() == {"a": "1", "b": "2"}
    assert dict(again.rows()) == {"a": {"state": "corrupt"}, "b": {"state": "no_face", "crop_rows": [1.5, None]}}
    assert [key for key, _ in again.rows()] == ["a", "b"]
    again.close()


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(UsageError, match=r"l\.sqlite is damaged"):
        Ledger(path)


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(tmp_path / "l.sqlite")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(UsageError, match="another version"):
        Ledger(tmp_path / "l.sqlite")


def test_one_row(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record("a", "1", {"state": "ok"})
    assert ledger.row("a") == {"state": "ok"}
    assert ledger.row("b") is None


def test_what_was_published_is_forgotten_with_the_next_row(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record("a", "1", {"state": "ok"})
    assert ledger.published is None
    ledger.publish("as it stands")
    ledger.write_note("scale", "1.3")
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert (again.published, again.note("scale")) == ("as it stands", "1.3")
    again.record("a", "1", {"state": "ok"})  # also where the row only takes the place of another
    assert (again.published, again.note("scale")) == (None, "1.3")


def test_an_older_dfpipe_that_writes_a_row_forgets_it_too(tmp_path: Path) -> None:
    import sqlite3

    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.publish("as it stands")
    db = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    db.execute("INSERT OR REPLACE INTO inputs VALUES ('a', '1', '{}')")
    db.close()
    assert ledger.published is None
