import dataclasses
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dfpipe.config import FacesConfig, HeadConfig, TrainConfig
from dfpipe.errors import ModelFileError
from dfpipe.files import sha256_file
from dfpipe.train import modelfile
from dfpipe.train.card import ModelCard, read_card
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.models import FaceClassifier, create_model

HEAD = HeadConfig(hidden=8, dropout=0.2, outputs=2)
CARD = ModelCard(
    "test", "resnet18", 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), FacesConfig(crop_scale=0.85), HEAD
)


@pytest.fixture(scope="module")
def network() -> FaceClassifier:
    return create_model(TrainConfig("resnet18", "none", head=HEAD, image_size=64))[0].eval()


@pytest.fixture
def saved(network: FaceClassifier, tmp_path: Path) -> Path:
    save_model(tmp_path / "m.safetensors", network, CARD)
    return tmp_path / "m.safetensors"


def test_round_trip(network: FaceClassifier, saved: Path) -> None:
    loaded = load_model(saved)
    assert loaded.card == CARD
    assert read_card(saved) == CARD
    images = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(loaded.network(images), network(images))
    assert len(loaded.sha256) == 64


def test_saving_is_repeatable(network: FaceClassifier, saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again.safetensors", network, CARD)
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_others_may_read_it_as_they_may_any_file(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    assert saved.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_half_precision_halves_the_file_and_hardly_moves_the_scores(
    network: FaceClassifier, saved: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.safetensors"
    save_model(half, network, dataclasses.replace(CARD, storage="float16"))
    assert half.stat().st_size < 0.51 * saved.stat().st_size
    loaded = load_model(half)
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    images = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(loaded.network(images), network(images), atol=5e-3, rtol=5e-3)
    save_model(tmp_path / "again.safetensors", loaded.network, loaded.card)
    assert (tmp_path / "again.safetensors").read_bytes() == half.read_bytes()  # as when figures are recorded


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    large = create_model(TrainConfig("resnet18", "none", head=HEAD, image_size=64))[0]
    with torch.no_grad():
        large.head.output.weight.fill_(1e6)
    with pytest.raises(ModelFileError, match="too large for float16"):
        save_model(tmp_path / "m.safetensors", large, dataclasses.replace(CARD, storage="float16"))
    assert not (tmp_path / "m.safetensors").exists()


def rewritten(saved: Path, change: dict[str, Any]) -> Path:
    card = json.loads(json.dumps(dataclasses.asdict(CARD))) | change
    save_file(load_file(saved), saved, metadata={"dfpipe": json.dumps(card)})
    return saved


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 99},
        {"threshold": 0.9},
        {"band": [0.6, 0.4]},
        {"band": 3},
        {"band": [0.5]},
        {"name": 3},
        {"metrics": []},
        {"mean": None},
        {"faces": {"crop_scale": "wide"}},
        {"faces": {"unheard_of": 1}},
        {"head": {"outputs": 3}},
        {"schema": 1},
        {"image_size": -1},
        {"storage": "int2"},
    ],
)
def test_descriptions_that_make_no_sense_are_refused(saved: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match="cannot be understood"):
        read_card(rewritten(saved, change))


def test_unknown_architecture(saved: Path) -> None:
    with pytest.raises(ModelFileError, match="update dfpipe and timm"):
        load_model(rewritten(saved, {"architecture": "resnet_of_tomorrow"}))


def test_tensors_of_another_network(saved: Path) -> None:
    with pytest.raises(ModelFileError, match="not those of resnet34"):
        load_model(rewritten(saved, {"architecture": "resnet34"}))


def test_weights_that_are_no_numbers(saved: Path) -> None:
    tensors = load_file(saved)
    tensors["head.output.weight"][0, 0] = float("nan")
    save_file(tensors, saved, metadata={"dfpipe": json.dumps(dataclasses.asdict(CARD))})
    with pytest.raises(ModelFileError, match=r"head\.output\.weight"):
        load_model(saved)


def test_files_that_are_no_models(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "x.safetensors"
    lying = struct.pack("<Q", 2**40) + b"{" + b"x" * 100
    for content in (b"", b"text", b"PK\x03\x04" + b"\0" * 100, lying, saved.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            load_model(path)
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(tmp_path / "missing.safetensors")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(tmp_path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="not written by dfpipe"):
        load_model(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    trap = tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)  # what torch saves and what pickle writes alike

    torch.save({"state_dict": Evil()}, tmp_path / "m.pt")
    for name in ("m.pt", "m.pth", "m.ckpt", "m.pkl", "m.safetensors", "m"):
        path = tmp_path / name
        path.write_bytes((tmp_path / "m.pt").read_bytes())
        with pytest.raises(ModelFileError, match="is a pickle"):
            load_model(path)
    (tmp_path / "bare").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelFileError, match="is a pickle"):
        load_model(tmp_path / "bare")
    assert not trap.exists()
    torch.load(tmp_path / "m.pt", weights_only=False)  # the trap works
    assert trap.exists()


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"image_size": 10**9, "architecture": "vit_base_patch16_224"}, "architecture"),
        ({"image_size": 8000, "architecture": "vit_base_patch16_224"}, "tensors are not those of"),
        ({"head": {"hidden": 1 << 40}}, "has the shape"),
    ],
)
def test_a_card_that_describes_a_giant_costs_no_memory(saved: Path, card: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason):
        load_model(rewritten(saved, card))


def test_an_ensemble_of_too_many_is_refused(saved: Path) -> None:
    with pytest.raises(ModelFileError, match="65 members, more than 64"):
        read_card(rewritten(saved, {"ensemble": {"how": "mean-prob", "members": [{}] * 65}}))


def test_a_card_nested_without_end_is_refused(saved: Path) -> None:
    save_file(load_file(saved), saved, metadata={"dfpipe": "[" * 100_000})
    with pytest.raises(ModelFileError, match="cannot be understood"):
        read_card(saved)


def test_a_file_that_changes_between_check_and_load_is_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build = modelfile._network

    def slowly(card: ModelCard, file: Any) -> Any:
        network = build(card, file)
        change()
        return network

    def change() -> None:
        data = bytearray(saved.read_bytes())
        data[-1] ^= 1
        saved.write_bytes(data)
        os.utime(saved, ns=(0, 0))  # as if nobody had touched it for long

    monkeypatch.setattr(modelfile, "_network", slowly)
    with pytest.raises(ModelFileError, match="changed while it was read"):
        load_model(saved)


def test_the_hash_is_that_of_the_file(saved: Path) -> None:
    assert load_model(saved).sha256 == sha256_file(saved)
