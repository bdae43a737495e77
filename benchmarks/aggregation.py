"""Which rule joins frame scores best? Every rule of `AGGREGATES` on the same scores.

    dfpipe evaluate model.safetensors --data clips/ --out evaluation
    python benchmarks/aggregation.py evaluation/scores.parquet [MORE.parquet ...]

Several tables are taken together, as if they were one set of clips. Clips with one scored frame are left out: there is
nothing to join. The columns: how well the rule ranks clips (AUC), how well its result means what it says (log loss, and the
calibration error), and what it does at the model's own threshold (recall of fakes, share of real clips called fake). Where
there are at least six groups, the difference of AUC to mean_logit comes with a 95 % interval by bootstrap over groups.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from dfpipe.infer.aggregate import AGGREGATES
from dfpipe.infer.intervals import FEWEST_GROUPS
from dfpipe.infer.levels import Level, levels_of
from dfpipe.infer.scores import Scores, read_scores
from dfpipe.train.metrics import binary_metrics

DEFAULT = "mean_logit"
RESAMPLES = 2000


def clips_of(tables: list[Scores], rule: str) -> Level:
    """The clips of all tables, joined by one rule."""
    parts = []
    for table in tables:
        clip = levels_of(table, rule, (0.4, 0.6), table.about.get("min_frames", 4))["clip"]
        frames = Counter(
            m for m, p in zip(table.columns["media_id"], table.columns["p_fake"], strict=True) if p is not None
        )
        parts.append(clip.take([i for i, m in enumerate(clip.columns["media_id"]) if frames[m] > 1]))
    columns = {name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns}
    return Level([x for p in parts for x in p.labels], [x for p in parts for x in p.p_fake], columns)


def difference(one: Level, other: Level, seed: int = 0) -> str:
    """The 95 % interval of the difference of AUC, over groups drawn with replacement."""
    names = sorted(set(one.groups))
    if len(names) < FEWEST_GROUPS:
        return f"no interval, {len(names)} groups"
    members = {name: [i for i, group in enumerate(one.groups) if group == name] for name in names}
    rng, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        rows = [i for name in rng.choice(names, len(names)) for i in members[name]]
        auc = [binary_metrics([c.labels[i] for i in rows], [c.p_fake[i] for i in rows])["auc"] for c in (one, other)]
        if None not in auc:
            found.append(float(auc[0] or 0) - float(auc[1] or 0))
    low, high = np.percentile(found, [2.5, 97.5])
    return f"{low:+.3f} to {high:+.3f}"


def main(paths: list[str]) -> None:
    """Prints the table."""
    tables = [read_scores(Path(path)) for path in paths]
    for table in tables:
        if len(set(table.columns["model"])) > 1:
            raise SystemExit("one model only: evaluate each into its own folder")
    threshold = float(next(iter(tables[0].about["models"].values()))["threshold"])
    base = clips_of(tables, DEFAULT)
    real = base.labels.count(0)
    print(f"{len(base)} clips ({real} real, {len(base) - real} fake), threshold {threshold:.3f}\n")
    print("| rule | AUC | log loss | ECE | recall | FPR | AUC less that of mean_logit |\n|---|---|---|---|---|---|---|")
    rows = []
    for rule in AGGREGATES:
        clips = clips_of(tables, rule)
        m = binary_metrics(clips.labels, clips.p_fake, threshold)
        told = "" if rule == DEFAULT else difference(clips, base)
        cells = (f"{m[k]:.3f}" if m[k] is not None else "-" for k in ("auc", "log_loss", "ece", "recall", "fpr"))
        rows.append((-(m["auc"] or 0), m["log_loss"] or 0, f"| {rule} | {' | '.join(cells)} | {told} |"))
    print("\n".join(row for _, _, row in sorted(rows)))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])
