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
