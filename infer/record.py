"""Figures that a model file carries: of evaluations and stress tests, each with the data that it was measured on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfpipe.train.provenance import fingerprint

if TYPE_CHECKING:
    from dfpipe.infer.scores import Scores

EVALUATIONS, STRESS = "evaluations", "stress"  # keys in ModelCard.metrics
SHIPPED = "shipped"  # another: kind of input (crops, clips) -> the figures that stand beside verdicts
SHIPPED_METRICS = ("auc", "log_loss", "accuracy", "recall", "fpr")


def evaluation_record(results: Mapping[str, Any], model: str, scores: "Scores") -> dict[str, Any]:
    """What a model file keeps of an evaluation: the figures per clip, and on what they were measured."""
    found = results["models"][model]
    clip, columns = found["levels"]["clip"], scores.of(model).columns
    return {
        "data": Path(str(results["data"])).name,
        "datasets": sorted(set(columns["dataset"])),
        "split": results["split"],
        "fingerprint": fingerprint(columns["media_id"]),
        "coverage": {key: found["coverage"][key] for key in ("inputs", "scored", "share")},
        **{key: clip[key] for key in ("count", "real", "fake", "groups", "metrics", "intervals")},
        "verdicts": found["verdicts"],
        "methods": _methods(found["breakdown"]["method"]),
        "threshold": found["threshold"],
        "leaks": found.get("leaks", ""),
        "bootstrap": dict(results["bootstrap"]),
    }


def _methods(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Figures per method of manipulation, where there are several."""
    if len(parts) < 2:
        return {}
    kept = ("auc", "recall")
    return {
        name: {
            "fake": found["fake"],
            "metrics": {metric: found["metrics"][metric] for metric in kept},
            "intervals": {metric: found["intervals"][metric] for metric in kept},
        }
        for name, found in parts.items()
    }


def shipped_record(clip: Mapping[str, Any], measured_on: str) -> dict[str, Any]:
    """What stands beside a verdict on an input of one kind: a few figures, and how many inputs they come from.

    Args:
        clip: Of `results_of`, the figures of a model at the level of clips (a still is a clip of one frame).
        measured_on: In words.
    """
    figures = {name: clip["metrics"][name] for name in SHIPPED_METRICS}
    return {**figures, "n": clip["count"], "real": clip["real"], "fake": clip["fake"], "measured_on": measured_on}


def record_shipped(path: Path, kinds: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the figures that stand beside verdicts into a model file: kind of input to `shipped_record`.

    Raises:
        ModelFileError: It cannot be read.
    """
    from dfpipe.train.modelfile import load_model, save_model

    model = load_model(path)
    metrics = {**model.card.metrics, SHIPPED: {kind: dict(figures) for kind, figures in kinds.items()}}
    save_model(path, model.network, replace(model.card, metrics=metrics))


def stress_record(results: Mapping[str, Any], scores: "Scores") -> dict[str, Any]:
    """What a model file keeps of a stress test."""
    columns = scores.columns
    return {
        "data": Path(str(results["data"])).name,
        "datasets": sorted(set(columns["dataset"])),
        "split": results["split"],
        "fingerprint": fingerprint(columns["media_id"]),
        "threshold": results["threshold"],
        "leaks": results["leaks"],
        "conditions": list(results["conditions"]),
    }


def record(path: Path, key: str, entry: dict[str, Any]) -> None:
    """Adds an entry to a model file, in place of one on the same inputs and split.

    Args:
        path: The model file; written anew, so that its hash changes. Its weights do not.
        key: `EVALUATIONS` or `STRESS`.
        entry: From `evaluation_record` or `stress_record`.

    Raises:
        ModelFileError: It cannot be read.
    """
    from dfpipe.train.modelfile import load_model, save_model

    model = load_model(path)
    same = ("fingerprint", "split")
    others = [old for old in model.card.metrics.get(key, []) if any(old.get(k) != entry[k] for k in same)]
    metrics = {**model.card.metrics, key: [*others, entry]}
    save_model(path, model.network, replace(model.card, metrics=metrics))
