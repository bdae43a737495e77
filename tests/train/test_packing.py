from pathlib import Path

import pytest

from dfpipe.errors import ModelFileError
from dfpipe.train import packing
from dfpipe.train.card import read_card
from dfpipe.train.modelfile import load_model
from dfpipe.train.packing import pack


def test_a_packed_file_is_half_as_large_and_says_what_it_is(model: Path, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed.safetensors"
    done = pack(model, out, "small", "research use", faces)
    assert done.bytes == out.stat().st_size < 0.55 * model.stat().st_size
    assert done.difference < packing.TOLERANCE
    assert "validation crops" in done.checked_on
    before, after = read_card(model), read_card(out)
    assert (after.name, after.data["licence"], after.storage) == ("small", "research use", "float16")
    assert after.metrics == before.metrics
    assert {key: value for key, value in after.data.items() if key != "licence"} == before.data


def test_without_a_name_it_keeps_its_own(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "packed.safetensors")
    assert read_card(tmp_path / "packed.safetensors").name == read_card(model).name
    assert "licence" not in read_card(tmp_path / "packed.safetensors").data


def test_scores_that_move_are_not_shipped(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TOLERANCE", 0.0)
    with pytest.raises(ModelFileError, match="is not written: in half precision p_fake moves by"):
        pack(model, tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()
    load_model(model)
