"""The embedded model: there, small, calibrated, and its card in docs/ is what its file says."""

import struct
from pathlib import Path

import pytest

from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.modelcard import model_card
from dfpipe.infer.record import EVALUATIONS, SHIPPED, STRESS
from dfpipe.train.card import read_card
from dfpipe.train.modelfile import load_model

CARD = Path(__file__).parents[2] / "docs" / "model_card.md"
LARGEST_BYTES = 15_000_000
LARGEST_HEADER_BYTES = 1_000_000


@pytest.fixture(scope="module")
def embedded() -> Path:
    path = embedded_model()
    assert path is not None
    return path


def test_it_is_small_enough_to_ship(embedded: Path) -> None:
    assert embedded.stat().st_size <= LARGEST_BYTES
    (header,) = struct.unpack("<Q", embedded.read_bytes()[:8])
    assert header < LARGEST_HEADER_BYTES


def test_it_loads_and_says_what_it_needs(embedded: Path) -> None:
    card = load_model(embedded).card
    assert card.calibration is not None
    assert "research" in card.data["licence"]
    assert card.data["trained_on"]["groups"]


def test_its_measured_error_stands_in_the_file(embedded: Path) -> None:
    metrics = read_card(embedded).metrics
    assert metrics[EVALUATIONS]
    assert metrics[STRESS]
    for kind in ("crops", "clips"):
        assert {"auc", "log_loss", "accuracy", "fpr", "n"} <= set(metrics[SHIPPED][kind])


def test_the_card_in_docs_is_what_the_file_says(embedded: Path) -> None:
    assert CARD.read_text(encoding="utf-8") == model_card(embedded)
