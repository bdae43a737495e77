"""ONNX files give what torch gives, or do not appear."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch

from dfpipe.config import FacesConfig, HeadConfig
from dfpipe.errors import ModelFileError, SourceError, UsageError
from dfpipe.train import export as room
from dfpipe.train.card import ModelCard
from dfpipe.train.export import RANDOM, export_onnx
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.models import FaceClassifier

NETWORKS = ("simple_cnn", "deepfake_detector_cnn", "test_vit")  # the last is the tiniest of timm
SIDES = {"test_vit": 160}


def saved(folder: Path, architecture: str, head: HeadConfig | None = None) -> Path:
    """A model file with random weights and a normalisation that shows when it is left out."""
    side = SIDES.get(architecture, 32)
    card = ModelCard(
        architecture, architecture, side, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), FacesConfig(), head or HeadConfig()
    )
    torch.manual_seed(0)
    network = FaceClassifier(card.architecture, side, card.mean, card.std, card.head)
    torch.nn.init.normal_(network.head.output.weight)
    path = folder / f"{architecture}.safetensors"
    save_model(path, network, card)
    return path


def scores(path: Path, images: torch.Tensor) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(x.name, x.type, x.shape[1:]) for x in session.get_inputs()] == [
        ("images", "tensor(float)", list(images.shape[1:]))
    ]
    assert [x.name for x in session.get_outputs()] == ["logit"]
    return session.run(None, {"images": images.numpy()})[0]


@pytest.mark.parametrize("architecture", NETWORKS)
def test_onnxruntime_gives_what_torch_gives(architecture: str, tmp_path: Path) -> None:
    model = saved(tmp_path, architecture)
    done = export_onnx(model, tmp_path / "new" / "out.onnx")
    assert done.checked_on == RANDOM
    assert done.difference <= 1e-4
    assert sorted(path.name for path in done.path.parent.iterdir()) == ["out.onnx"]  # one file, weights within
    loaded = load_model(model)
    for count in (1, 2, 7):
        images = torch.rand(count, 3, loaded.card.image_size, loaded.card.image_size)
        with torch.inference_mode():
            expected = loaded.network(images).numpy()
        np.testing.assert_allclose(scores(done.path, images), expected, atol=1e-4)
    with safetensors.safe_open(model, framework="pt") as file:
        card = json.loads(file.metadata()["dfpipe"])
    (found,) = (prop.value for prop in onnx.load(done.path).metadata_props if prop.key == "dfpipe")
    assert json.loads(found) == card


def test_heads_of_two_outputs_and_a_dense_layer(tmp_path: Path) -> None:
    model = saved(tmp_path, "simple_cnn", HeadConfig(hidden=8, dropout=0.5, outputs=2))
    done = export_onnx(model, tmp_path / "out.onnx")
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        np.testing.assert_allclose(scores(done.path, images), load_model(model).network(images).numpy(), atol=1e-4)


def test_a_mirroring_head(tmp_path: Path) -> None:
    done = export_onnx(saved(tmp_path, "simple_cnn", HeadConfig(mirror=True)), tmp_path / "out.onnx")
    images = torch.rand(3, 3, 32, 32)
    np.testing.assert_allclose(scores(done.path, images), scores(done.path, images.flip(-1)), atol=1e-4)


def test_real_crops_are_checked(faces: Path, tmp_path: Path) -> None:
    done = export_onnx(saved(tmp_path, "simple_cnn"), tmp_path / "out.onnx", faces)
    assert done.checked_on == f"validation crops of {faces}"
    assert done.pictures == 16
    with pytest.raises(SourceError, match="dfpipe extract"):
        export_onnx(saved(tmp_path, "simple_cnn"), tmp_path / "out.onnx", tmp_path)


def test_a_network_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = room._program

    def wrong(loaded: Any) -> Any:
        made = program(loaded)
        with torch.no_grad():
            loaded.network.head.output.bias += 0.01
        return made

    monkeypatch.setattr(room, "_program", wrong)
    with pytest.raises(ModelFileError, match=r"differ by 0\.0\d+ on seeded random pictures, more than 0\.0001"):
        export_onnx(saved(tmp_path, "simple_cnn"), tmp_path / "new" / "out.onnx")
    assert not list((tmp_path / "new").iterdir())


def test_a_network_that_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\nno such operator\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ModelFileError, match=r"simple_cnn cannot be exported \(no such operator\)"):
        export_onnx(saved(tmp_path, "simple_cnn"), tmp_path / "out.onnx")


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"needs onnxruntime: pip install 'dfpipe\[export\]'"):
        export_onnx(tmp_path / "m.safetensors", tmp_path / "out.onnx")


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        export_onnx(tmp_path / "m.safetensors", tmp_path / "out.onnx")
