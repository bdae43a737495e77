"""The table of faults, run once for all tests that were chosen."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The modules beside this file are imported by their names: here, by benchmarks/faults.py, and by the processes that the
# rows start, which take this path over.
sys.path.insert(0, str(Path(__file__).parent))

from table import Table, quiet


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """The rows of the chosen tests, which begin to run when the first is asked for."""
    quiet()
    chosen = {
        str(item.callspec.params["name"])
        for item in request.session.items
        if hasattr(item, "callspec") and "name" in item.callspec.params
    }
    running = Table(tmp_path_factory.mktemp("faults"), chosen)
    yield running
    running.close()
