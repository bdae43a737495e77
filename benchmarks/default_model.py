"""Measures the embedded default model on what it was not trained on, and prints every figure of its card.

    python benchmarks/default_model.py DATA                              # print
    python benchmarks/default_model.py DATA --write docs/model_card.md   # and write the card

DATA is the folder with the collections named in `SETS`, as their publishers lay them out; see docs/default_model.md. The
figures come from dfpipe.infer's own evaluation, stress test and model card, on a copy of the model file: what is printed is
measured now, and ends with a comparison with what the shipped file says of itself. `--record` puts the figures into the
model file itself, for whoever trains a new one.
"""

import argparse
import logging
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfpipe.config import Config
from dfpipe.doctor import SELFTEST, selftest_answers
from dfpipe.errors import DfpipeError
from dfpipe.infer import stress as stressing
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.evaluate import SCORES, Evaluated, Options, evaluate, evaluate_scores, record_all
from dfpipe.infer.modelcard import write_card
from dfpipe.infer.record import EVALUATIONS, SHIPPED, STRESS, record_shipped, shipped_record
from dfpipe.infer.scores import joined, read_scores, write_scores
from dfpipe.train.card import read_card
from dfpipe.train.modelfile import load_model, save_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collection:
    """What is measured on."""

    source: str  # below DATA: a folder, or a zip archive
    parts: tuple[str, ...] = ()  # of the archive, below its first folder
    stills: str = "detect"  # see preprocess.stills: pictures with faces in them, or face crops already


SETS = {
    "dfdc_faces_224": Collection("dfdc_faces_224.zip", ("metadata.csv", "Test/"), "as-is"),
    "faceforensics": Collection("faceforensics"),
    "dfdc": Collection("dfdc"),
    "dfdc_face_clips": Collection("dfdc_face_clips"),
    "clips": Collection("clips"),
    "portraits_256": Collection("portraits_256.zip", ("Validation/",)),
}
SHIPPED_AS = {  # kind of input -> the collections whose figures stand beside verdicts, and how that is said
    "crops": (("dfdc_faces_224",), "face crops of DFDC's test split"),
    "clips": (("faceforensics", "dfdc", "clips"), "whole clips: FaceForensics++ c40, DFDC, real clips from elsewhere"),
}
STRESSED = {  # collection -> degradations, and inputs at most: encoding clips anew costs minutes
    "dfdc_faces_224": (("jpeg", "downscale"), 400),
    "faceforensics": (("crf", "downscale"), 12),
}
SAME = 0.005  # figures closer than that are the same: threads and processors differ in the last digits of a score


def main() -> int:
    """Measures, prints, writes. Returns 1 if the shipped file says otherwise."""
    wanted = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    shipped = wanted.model or embedded_model()
    if shipped is None:
        print("this install has no embedded model: name a model file with --model", file=sys.stderr)
        return 2
    wanted.out.mkdir(parents=True, exist_ok=True)
    copy = wanted.out / "measured.safetensors"
    try:
        _without_figures(shipped, copy)
        measure(copy, wanted.data, wanted.out, wanted.workers)
    except DfpipeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if wanted.record:
        record_selftest(copy)
        shutil.copy(copy, shipped)
    print(write_card(copy, wanted.write))
    different = differences(figures(read_card(shipped).metrics), figures(read_card(copy).metrics))
    print(
        "\n".join(["the shipped file says otherwise:", *different] if different else ["the shipped file says the same"])
    )
    return 1 if different else 0


def _without_figures(shipped: Path, copy: Path) -> None:
    """A copy that says nothing yet: whatever it says in the end was measured now."""
    model = load_model(shipped)
    metrics = {key: value for key, value in model.card.metrics.items() if key not in (EVALUATIONS, STRESS, SHIPPED)}
    save_model(copy, model.network, replace(model.card, metrics=metrics))


def record_selftest(path: Path) -> None:
    """Writes down what the model says of two made clips, for `dfpipe doctor --selftest`."""
    model = load_model(path)
    metrics = {**model.card.metrics, SELFTEST: selftest_answers(path)}
    save_model(path, model.network, replace(model.card, metrics=metrics))


def measure(model: Path, data: Path, out: Path, workers: int) -> None:
    """Measures a model file on all collections, and writes the figures into it."""
    done = {}
    for name, collection in SETS.items():
        detectors = {"default": Detector.load(model, "cpu")}
        source, config = prepared(name, data, out / "media"), Config().with_preprocess(stills=collection.stills)
        done[name] = evaluate(detectors, source, out / name, config, Options(leaks="drop", workers=workers))
        record_all(done[name], detectors)
        shown(name, done[name])
    record_shipped(model, {kind: pooled(names, words, done, out) for kind, (names, words) in SHIPPED_AS.items()})
    for name, (kinds, limit) in STRESSED.items():
        (crops,) = (Path(found["crops"]) for found in done[name].results["models"].values())
        options = Options(split="all", leaks="drop", workers=workers, limit=limit)
        stressed = stressing.stress(
            Detector.load(model, "cpu"), crops, out / f"{name}-stress", Config(), options, kinds
        )
        stressing.record_all(stressed, model)


def prepared(name: str, data: Path, media: Path) -> Path:
    """The folder to evaluate: the collection's own, or the parts of an archive that no training saw, unpacked."""
    collection = SETS[name]
    source = data / collection.source
    if not collection.parts:
        return source
    with zipfile.ZipFile(source) as archive:
        for member in archive.namelist():
            inside = member.partition("/")[2]
            if inside.startswith(collection.parts) and not member.endswith("/"):
                target = media / name / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))
    return media / name


def pooled(names: tuple[str, ...], words: str, done: Mapping[str, Evaluated], out: Path) -> dict[str, Any]:
    """The figures of some collections as one."""
    tables = [read_scores(done[name].out / SCORES) for name in names]
    table = out / f"{'-'.join(names)}.parquet"
    write_scores(table, joined(tables, tables[0].about))
    (model,) = evaluate_scores(table, out / f"{'-'.join(names)}-pooled").results["models"].values()
    return shipped_record(model["levels"]["clip"], words)


def shown(name: str, done: Evaluated) -> None:
    """One line as it goes."""
    (model,) = done.results["models"].values()
    clip = model["levels"]["clip"]
    told = {
        m: None if (v := clip["metrics"][m]) is None else round(v, 3) for m in ("auc", "log_loss", "accuracy", "fpr")
    }
    print(name, clip["count"], told, model["verdicts"], flush=True)


def figures(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Every measured figure of a model file by a readable key."""
    found: dict[str, float | None] = {}
    for entry in metrics.get(EVALUATIONS, []):
        found |= {f"{', '.join(entry['datasets'])}: {name}": value for name, value in entry["metrics"].items()}
    for entry in metrics.get(STRESS, []):
        for row in entry["conditions"]:
            where = f"{', '.join(entry['datasets'])}, {row['title']} {row['strength']}"
            found |= {f"{where}: {name}": value for name, value in row["metrics"].items()}
    for kind, entry in metrics.get(SHIPPED, {}).items():
        found |= {
            f"beside verdicts, {kind}: {name}": v for name, v in entry.items() if isinstance(v, float) or v is None
        }
    return found


def differences(said: Mapping[str, float | None], measured: Mapping[str, float | None]) -> list[str]:
    """Lines for figures that a file does not hold, or holds otherwise."""
    return [
        f"{key}: {said.get(key, 'nothing')} in the file, measured {value}"
        for key, value in measured.items()
        if key not in said or not _same(said[key], value)
    ]


def _same(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= SAME


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the collections")
    parser.add_argument("--model", type=Path, help="another model file than the embedded one")
    parser.add_argument("--out", type=Path, default=Path("evaluation/default_model"), help="crops, pages, scores")
    parser.add_argument("--write", type=Path, help="where to write the card")
    parser.add_argument("--record", action="store_true", help="put the figures into the model file")
    parser.add_argument("--workers", type=int, default=0, help="processes that read media; 0 = one per core")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
