"""The report on one input: a page that stands alone, for a person who checks a verdict, and the same as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfpipe.infer.detector import Detector, Judged
from dfpipe.infer.evidence import MOST_PEOPLE, Face, faces_to_show, score_chart
from dfpipe.infer.page import figure, render, share
from dfpipe.infer.record import EVALUATIONS, SHIPPED
from dfpipe.infer.summary import with_interval
from dfpipe.infer.verdicts import Line
from dfpipe.infer.words import NOT_TOLD, clock
from dfpipe.preprocess.crops import resize
from dfpipe.preprocess.looks import jpeg_uri
from dfpipe.train.card import ModelCard
from dfpipe.types import Image

PAGE, FIGURES, OVERLAY = "report.html", "report.json", "overlay"
FACE_PX = 160  # side of a face on the page: large enough to judge by eye, 6 kB each


def write_report(folder: Path, judged: Judged, line: Line, detector: Detector, heat: bool) -> None:
    """Writes report.html and report.json.

    Args:
        folder: Of this input.
        judged: The verdict with its evidence.
        line: The verdict as it stands in verdicts.jsonl.
        detector: Which gave it.
        heat: Whether the faces are shown with heat-maps too.
    """
    faces = faces_to_show(judged.verdict, judged.crops)
    shown = {track: _shown(members, detector, heat) for track, members in faces.items()}
    texts = {
        FIGURES: json.dumps(line, indent=2, allow_nan=False) + "\n",
        PAGE: render(
            "report.html",
            {},
            v=line,
            name=Path(line["path"]).name,
            chart=score_chart(line),
            faces=shown,
            most_people=MOST_PEOPLE,
            heat=heat,
            facts=media_facts(line),
            overlay=overlay if (overlay := line.get("overlay", {})).get("file") else None,
            measured=measured_error(detector.model.card, line),
            card=detector.model.card,
            not_told=NOT_TOLD,
            clock=clock,
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")


def _shown(faces: list[Face], detector: Detector, heat: bool) -> list[dict[str, Any]]:
    """What the page needs of some faces."""
    small = [resize(face.crop.image, FACE_PX) for face in faces]
    warm = _heated(faces, small, detector) if heat else []
    return [
        {
            "picture": jpeg_uri(picture),
            "heat": jpeg_uri(warm[i]) if heat else "",
            "time": clock(face.score.time_s),
            "frame": face.score.frame_index,
            "p_fake": face.score.p_fake,
            "against": face.against,
            "px": round(face.crop.box.side),
        }
        for i, (face, picture) in enumerate(zip(faces, small, strict=True))
    ]


def _heated(faces: list[Face], small: list[Image], detector: Detector) -> list[Image]:
    from dfpipe.infer.heatmap import heatmaps, painted

    images = detector.scorer.as_input(np.stack([face.crop.image for face in faces]))
    maps = heatmaps(detector.model.network, images)
    return [painted(picture, heat) for picture, heat in zip(small, maps, strict=True)]


def media_facts(line: Mapping[str, Any]) -> dict[str, str]:
    """What is known of the file, for reading."""
    media = line["media"]
    facts = {"path": line["path"]}
    if media is None:
        return facts | {"SHA-256": line["sha256"] or "not read"}
    facts["kind"] = {"video": "clip", "image": "still picture"}[media["kind"]]
    facts["size"] = f"{media['width']} x {media['height']} px, {_bytes(media['bytes'])}"
    if media["kind"] == "video":
        rate = f"{media['fps']:.4g} frames/s" if media["fps"] else "unknown frame rate"
        length = f"{media['duration_s']:.2f} s" if media["duration_s"] is not None else "unknown length"
        turned = f", turned by {media['rotation']}°" if media["rotation"] else ""
        facts["clip"] = f"{media['codec'] or 'decoded by the caller'}, {length}, {rate}{turned}"
        facts["decoder"] = media["reader"]
    frames = line["frames"]
    facts["frames"] = f"{frames['wanted']} looked for, {frames['decoded']} decoded, {frames['with_face']} with a face"
    return facts | {"SHA-256": line["sha256"]}


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def measured_error(card: ModelCard, line: Mapping[str, Any]) -> list[str]:
    """What is known of how often the model is wrong on inputs of this kind, a sentence each; says so where nothing is.

    Args:
        card: Of the model.
        line: The verdict: clips and stills are two uses with two errors.
    """
    kind = "crops" if (line["media"] or {}).get("kind") == "image" else "clips"
    shipped = card.metrics.get(SHIPPED, {})
    told = [_shipped(shipped[kind])] if kind in shipped else []
    told += [_evaluated(one) for one in card.metrics.get(EVALUATIONS, []) if kind not in shipped]
    outside = (card.calibration or {}).get("outside")
    if outside and outside["decided"]:
        on = (card.calibration or {})["fitted_on"]
        told.append(
            f"Of its answers outside the band on {on['clips']:,} inputs of {', '.join(on['datasets'])} ({on['split']}), "
            f"{share(outside['error'])} were wrong; with 95 % confidence, on inputs like these, not more than "
            f"{share(outside['error_limit'])}."
        )
    validation = card.metrics.get("validation", {}).get("auc")
    if not told and validation is not None:
        told.append(f"Only known on the data that chose it, which flatters it: AUC {figure(validation)} per face.")
    return told or ["Its error was never measured: how often it is wrong is not known."]


def _shipped(found: Mapping[str, Any]) -> str:
    return (
        f"Measured on {found['n']:,} inputs of this kind ({found['measured_on']}; {found['real']:,} real, {found['fake']:,} "
        f"fake): AUC {figure(found['auc'])}; at its threshold it found {share(found['recall'])} of the fakes and called "
        f"{share(found['fpr'])} of the real ones fake. On other material it can be worse."
    )


def _evaluated(found: Mapping[str, Any]) -> str:
    parts = ", ".join(
        f"{title} {with_interval(found, metric)}"
        for metric, title in (("auc", "AUC"), ("recall", "fakes found"), ("fpr", "real ones called fake"))
    )
    return (
        f"Measured on {found['count']:,} inputs of {', '.join(found['datasets'])} ({found['split'] or 'all'}; "
        f"{found['real']:,} real, {found['fake']:,} fake): {parts}. In brackets: 95 % intervals."
    )
