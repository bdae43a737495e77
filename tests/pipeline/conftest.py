"""A Ray cluster for the tests of a file."""

from collections.abc import Iterator

import pytest

from dfpipe.rayengine import Cluster, connected


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two cores on this machine, which the engine `ray` finds there already."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'dfpipe[ray]'")
    with connected(Cluster(), workers=2):
        yield


@pytest.fixture(params=["serial", "local", pytest.param("ray", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine."""
    return started(request)


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def killing(request: pytest.FixtureRequest) -> str:
    """The engines that kill what goes over its limits."""
    return started(request)


def started(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return str(request.param)
