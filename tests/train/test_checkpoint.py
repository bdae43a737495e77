"""States that are damaged, missing or hostile."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dfpipe.errors import DataError, ResourceError
from dfpipe.train import checkpoint
from dfpipe.train.checkpoint import PREVIOUS, STATE, Place, forget_state, has_state, load_state, save_state


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that saved its state twice."""
    for epoch in (1, 2):
        save_state(tmp_path, Place(epoch=epoch), {"network": {"w": torch.full((100,), float(epoch))}})
    return tmp_path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_the_newest_state_is_read_and_the_one_before_it_kept(run: Path) -> None:
    place, state = load_state(run)
    assert place == Place(epoch=2)
    torch.testing.assert_close(state["network"]["w"], torch.full((100,), 2.0))
    assert sorted(path.name for path in run.iterdir()) == [PREVIOUS, STATE]


@pytest.mark.parametrize("place", [0, 14, 20, 80, 500, -1])
def test_a_single_wrong_bit_is_found_before_anything_is_unpickled(
    run: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (STATE, PREVIOUS):
        flip(run / name, place)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(
        DataError, match=r"state\.pt is damaged, and .*damaged(: its checksum is wrong|, or was written.*): train"
    ):
        load_state(run)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_a_damaged_newest_state_gives_way_to_the_one_before_it(
    run: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = run / STATE
    if damage == "gone":  # killed between two renamings
        path.unlink()
    elif damage == "flipped":
        flip(path, 1000)
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "cut" else 0])
    assert has_state(run)
    with caplog.at_level(logging.WARNING):
        place, _ = load_state(run)
    assert place == Place(epoch=1)
    assert "going on from the state before it" in caplog.text


def test_a_state_without_a_checksum_is_of_another_version(tmp_path: Path) -> None:
    torch.save({"version": 1, "place": {}}, tmp_path / STATE)
    with pytest.raises(DataError, match=r"another version of dfpipe: train anew"):
        load_state(tmp_path)


def test_a_state_that_would_run_code_does_not(run: Path) -> None:
    """Whoever can write the file can write its checksum: it proves that nothing broke, not that nobody meddled."""
    trap = run / "touched"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    save_state(run, Place(), {"network": Evil()})
    (run / PREVIOUS).unlink()
    with pytest.raises(DataError, match="is damaged: its content cannot be read"):
        load_state(run)
    assert not trap.exists()


def test_a_full_disk_leaves_the_states_that_were_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(ResourceError, match="no space left"):
        save_state(run, Place(epoch=3), {})
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_that_has_ended_leaves_no_state(run: Path) -> None:
    forget_state(run)
    assert not has_state(run)
    assert list(run.iterdir()) == []
    with pytest.raises(DataError, match="holds no state"):
        load_state(run)
