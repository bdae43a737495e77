"""The second detector: real OpenCV, on a made-up network of YuNet's shape that always sees one known face."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfpipe.config import FacesConfig
from dfpipe.errors import ConfigError
from dfpipe.preprocess.faces import find_faces, load_detector

SIDE, STRIDE, ROW, COLUMN = 320, 16, 5, 7
SIZES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def answers(name: str, stride: int) -> np.ndarray:
    """What the network says at every place of one stride: a face of 64 x 80 px at one place of stride 16."""
    values = np.zeros((1, (SIDE // stride) ** 2, SIZES[name]), np.float32)
    if stride == STRIDE:
        face = {"cls": [0.9], "obj": [0.9], "bbox": [0.5, 0.5, np.log(4), np.log(5)], "kps": range(10)}
        values[0, ROW * (SIDE // STRIDE) + COLUMN] = face[name]
    return values


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "nought"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "shape"], ["flat"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "nought"),
        numpy_helper.from_array(np.ones(3, np.int64), "shape"),
    ]
    outputs = []
    for name in SIZES:
        for stride in (8, 16, 32):
            values = answers(name, stride)
            constants.append(numpy_helper.from_array(values, f"{name}_{stride}_values"))
            nodes.append(helper.make_node("Add", ["flat", f"{name}_{stride}_values"], [f"{name}_{stride}"]))
            outputs.append(helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, values.shape))
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "made up", [picture], outputs, constants)
    path = tmp_path_factory.mktemp("yunet") / "made up.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)
    return path


def test_boxes_and_landmarks_in_the_full_picture(network: Path) -> None:
    config = FacesConfig(detector="yunet", detector_model=str(network), detect_side=SIDE, min_confidence=0.5)
    (faces,) = find_faces(load_detector(config), [np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)], config)
    (face,) = faces
    centre = ((COLUMN + 0.5) * STRIDE, (ROW + 0.5) * STRIDE)
    expected = (centre[0] - 32, centre[1] - 40, centre[0] + 32, centre[1] + 40)
    assert (face.x1, face.y1, face.x2, face.y2) == pytest.approx([2 * v for v in expected], abs=0.1)
    assert face.confidence == pytest.approx(0.9, abs=1e-3)
    marks = [((COLUMN + x) * STRIDE, (ROW + y) * STRIDE) for x, y in ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))]
    assert np.array(face.landmarks) == pytest.approx(2 * np.array(marks), abs=0.1)


def test_too_unsure(network: Path) -> None:
    config = FacesConfig(detector="yunet", detector_model=str(network), detect_side=SIDE, min_confidence=0.95)
    assert find_faces(load_detector(config), [np.zeros((SIDE, SIDE, 3), np.uint8)], config) == [[]]


@pytest.mark.parametrize("content", [None, b"not a network"])
def test_a_model_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.onnx"):
        load_detector(FacesConfig(detector="yunet", detector_model=str(path)))


def test_without_a_model_file_the_message_says_where_to_get_one() -> None:
    with pytest.raises(ConfigError, match="OpenCV model zoo"):
        load_detector(FacesConfig(detector="yunet"))
