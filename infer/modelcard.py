"""A model card in Markdown, from what a model file holds and nothing else (Mitchell et al., Model Cards, FAT* 2019)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfpipe.infer.page import figure, share
from dfpipe.infer.record import EVALUATIONS, SHIPPED, SHIPPED_METRICS, STRESS
from dfpipe.infer.summary import TITLES, stress_markdown, with_interval
from dfpipe.names import printable
from dfpipe.train.card import ModelCard, read_card

LIMITS = """\
- A score is evidence, not proof. Nobody should be accused on the ground of a verdict alone.
- The model knows the manipulations that it was trained on. On new methods, wholly synthetic people and other sources it can
  be wrong, and confidently so: figures on one data set say little about another.
- It looks at faces only: not at voices, lips against speech, captions or context. Small, dark, covered or turned faces, and
  strong compression, make it worse.
- A clip without a face, and one that cannot be read, gets no score. Such inputs are counted as coverage above.
- People of an appearance that is rare in the training data may be judged worse; nothing here measures that."""


def model_card(path: Path) -> str:
    """Writes down what a model file says of itself.

    Args:
        path: The model file.

    Returns:
        Markdown.

    Raises:
        ModelFileError: It cannot be read.
    """
    card = read_card(path)
    parts = [
        f"# Model card: {_text(card.name)}",
        _input(card),
        _shipped(card.metrics.get(SHIPPED)),
        "## Training data",
        _training_data(card.data),
        "## Figures",
        _validation(card.metrics.get("validation")),
        *(_evaluation(one) for one in card.metrics.get(EVALUATIONS, [])),
        *(
            []
            if card.metrics.get(EVALUATIONS)
            else ["Not measured on test data: `dfpipe evaluate --record` does that."]
        ),
        "## Under stress",
        *(_stress(one) for one in card.metrics.get(STRESS, [])),
        *([] if card.metrics.get(STRESS) else ["Not measured: `dfpipe stress --record` does that."]),
        "## Threshold, band and calibration",
        _calibration(card),
        "## Limits",
        LIMITS,
        "## Licence",
        _licence(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _input(card: ModelCard) -> str:
    faces = card.faces
    network = _text(card.architecture)
    if card.ensemble is not None:
        names = ", ".join(_text(str(one["name"])) for one in card.ensemble["members"])
        network = f"{network} ({_text(str(card.ensemble['how']))} of {names})"
    return (
        "Says how likely a face in a picture or clip is manipulated (p_fake, 0 to 1). "
        f"Network: {network}, {card.image_size} px. "
        f"Faces are found by {_text(faces.detector)} in {faces.frames} frames of a clip ({_text(faces.sampling)}) and "
        f"cut to squares of {faces.crop_scale:g} times the face box{', aligned by landmarks' if faces.align else ''}. "
        f"Written by dfpipe {_text(card.code_version)}."
    )


def _shipped(kinds: Mapping[str, Any] | None) -> str:
    """The few figures that also stand beside verdicts: a use of its own for each kind of input."""
    if not kinds:
        return ""
    heads = ["kind of input", "inputs", *(TITLES[metric] for metric in SHIPPED_METRICS), "measured on"]
    rows = [
        [_text(kind), f"{found['n']:,}", *(figure(found[m]) for m in SHIPPED_METRICS), _text(found["measured_on"])]
        for kind, found in kinds.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def _training_data(data: Mapping[str, Any]) -> str:
    lines = [f"- Data sets: {_text(', '.join(data.get('datasets', [])) or 'not said')}"]
    for split, labels in data.get("crops", {}).items():
        lines.append(f"- {_text(split)}: {labels.get('real', 0):,} real and {labels.get('fake', 0):,} fake crops")
    if "groups" in data:
        lines.append(f"- Groups (source clips): {data['groups']:,}")
    lines.append(f"- Split fingerprint: `{_text(str(data.get('split_fingerprint', 'none')))}`")
    if "initial_weights" in data:
        lines.append(f"- First weights: {_text(str(data['initial_weights']))}")
    if "averaged" in data:
        lines.append(f"- Mean of the weights of: {_text(', '.join(data['averaged']))}")
    known = "yes, as hashes" if data.get("trained_on") else "no: leaks cannot be checked"
    lines.append(f"- The file says which groups and files it saw: {known}")
    return "\n".join(lines)


def _validation(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    told = ", ".join(f"{TITLES[k]} {figure(found[k])}" for k in ("auc", "log_loss", "accuracy") if k in found)
    return f"On validation, per crop, which chose the epoch and is therefore not a test: {told}."


def _evaluation(found: Mapping[str, Any]) -> str:
    head = (
        f"### {_text(', '.join(found['datasets']))}, {_where(found)}\n\n{found['count']:,} clips ({found['real']:,} real, "
        f"{found['fake']:,} fake) of {found['groups']:,} groups; {share(found['coverage']['share'])} of "
        f"{found['coverage']['inputs']:,} inputs could be scored. Threshold {figure(found['threshold'])}. In brackets: 95 % "
        f"intervals by bootstrap over groups. Overlap with the training data: {_text(found['leaks'])}. "
        f"Inputs: `{found['fingerprint'][:16]}`."
    )
    known = {metric: title for metric, title in TITLES.items() if found["metrics"][metric] is not None}
    rows = [f"| {title} | {with_interval(found, metric)} |" for metric, title in known.items()]
    parts = ["\n".join([head, "", "| per clip | |", "|---|---|", *rows])]
    return "\n\n".join([*parts, *_verdicts(found.get("verdicts", {})), *_methods(found.get("methods", {}))])


def _verdicts(verdicts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What was said of how many: the false alarms, and what was missed, as counts."""
    told = [
        f"Of {sum(counts.values()):,} {label} inputs {counts['FAKE']:,} were called FAKE, "
        f"{counts['UNCERTAIN']:,} UNCERTAIN, {counts['REAL']:,} REAL."
        for label, counts in verdicts.items()
        if sum(counts.values())
    ]
    return [" ".join(told)] if told else []


def _methods(methods: Mapping[str, Any]) -> list[str]:
    """Each method against the real inputs of the same data sets."""
    if not methods:
        return []
    rows = [
        f"| {_text(name)} | {found['fake']:,} | {with_interval(found, 'auc')} | {with_interval(found, 'recall')} |"
        for name, found in methods.items()
    ]
    return ["\n".join(["| method | fakes | AUC | found at the threshold |", "|---|---|---|---|", *rows])]


def _stress(found: Mapping[str, Any]) -> str:
    head = (
        f"### {_text(', '.join(found['datasets']))}, {_where(found)}\n\nThe same inputs after each change, at the threshold "
        f"{figure(found['threshold'])}. Overlap with the training data: {_text(found['leaks'])}."
    )
    return f"{head}\n\n{stress_markdown(found['conditions'])}".rstrip()


def _where(found: Mapping[str, Any]) -> str:
    return "all inputs" if found["split"] in (None, "all") else f"split {_text(str(found['split']))}"


def _calibration(card: ModelCard) -> str:
    low, high = card.band
    band = f"FAKE from {high:.3f}, REAL below {low:.3f}, between them UNCERTAIN; threshold {card.threshold:.3f}."
    kept = card.calibration
    if not kept:
        return f"{band} These are conventions: they were not fitted to data."
    on = kept.get("fitted_on", {})
    if not on:
        return f"{band} Calibrated ({_text(str(kept.get('method', 'temperature')))})."
    before, after, outside = kept["before"], kept["after"], kept["outside"]
    wrong = _outside(outside)
    return (
        f"{band} Calibrated by {_text(kept['method'])}, threshold by {_text(kept['rule'])}, fitted to {on['clips']:,} clips "
        f"({on['real']:,} real, {on['fake']:,} fake) of {_text(', '.join(on['datasets']))}, split {_text(on['split'])}. "
        f"There the log loss went from {figure(before['log_loss'])} to {figure(after['log_loss'])}, "
        f"the calibration error from {figure(before['ece'])} to {figure(after['ece'])}. {wrong}"
    )


def _outside(outside: Mapping[str, Any]) -> str:
    if not outside["decided"]:
        return "No clip there is sure enough for an answer outside the band."
    return (
        f"Outside the band {outside['wrong']:,} of {outside['decided']:,} answers were wrong ({share(outside['error'])}; "
        f"with 95 % confidence not above {share(outside['error_limit'])} on clips like these)."
    )


def _licence(card: ModelCard) -> str:
    stated = card.data.get("licence")
    own = (
        f"Licence of the weights: {_text(str(stated))}. " if stated else "The file states no licence for its weights. "
    )
    return (
        f"{own}The code that reads them is Apache-2.0. The data sets named above have terms of their own, which may bind "
        "whoever uses weights trained on them."
    )


def _text(text: str) -> str:
    """A name that cannot become Markdown or HTML of its own."""
    escaped = printable(text).replace("\\", "\\\\")
    for sign in "`*_[]<>|#":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def write_card(path: Path, out: Path | None) -> str:
    """Returns the card of a model file, and writes it to `out` if that is given."""
    from dfpipe.files import atomic_file

    text = model_card(path)
    if out is not None:
        with atomic_file(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text
