"""Each row of the table of bad inputs and faults is as expected."""

import re
from pathlib import Path

import pytest
from bench import differences
from table import KNOWN_LIMITS, Table, rows_in

NAMES = [row.name for row in rows_in(Path())]


@pytest.mark.parametrize("name", NAMES)
def test_row(table: Table, name: str) -> None:
    outcome = table[name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    if name in KNOWN_LIMITS:
        assert outcome.wrong, f"{name} is as it should be: take it off the list of known limits"
        pytest.xfail(KNOWN_LIMITS[name])
    assert not outcome.wrong, f"{outcome.observed}"


def test_the_table_is_large_enough_and_names_no_row_twice() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert len(NAMES) >= 70


def test_what_differs_is_seen() -> None:
    expected = {"state": frozenset({"ok", "partial"}), "seconds": range(5), "reason": re.compile("two"), "lines": 1}
    seen = {"state": "ok", "seconds": 4, "reason": "one two", "lines": 1}
    assert differences(expected, seen) == []
    for name, other in (("state", "corrupt"), ("seconds", 5), ("reason", "three"), ("lines", 2)):
        (wrong,) = differences(expected, {**seen, name: other})
        assert wrong.startswith(f"{name}: ")
    (wrong,) = differences(expected, {name: value for name, value in seen.items() if name != "lines"})
    assert "nothing seen" in wrong
