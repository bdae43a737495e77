"""What explore says of a folder, against numbers counted by hand."""

import csv
import json
import re
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.filters import laplace

from dfpipe.errors import SourceError, UsageError
from dfpipe.names import printable
from dfpipe.preprocess import charts, tallies
from dfpipe.preprocess.crops import encode_jpeg
from dfpipe.preprocess.manifest import (
    CROPS_SCHEMA,
    INPUTS,
    INPUTS_SCHEMA,
    MANIFEST,
    read_inputs,
    read_manifest,
    write_table,
)
from dfpipe.types import Image

pytest.importorskip("imagehash")
pytest.importorskip("matplotlib")

from dfpipe.preprocess.duplicates import near_pairs
from dfpipe.preprocess.explore import Explored, explore
from dfpipe.preprocess.looks import Fault, Look, look, perceptual_hash, rows_to_compare, sheet_rows, spread_over

EVIL = "<img src=x onerror=alert(1)>\"'&\n\u202e$\\frac{.mp4"


def picture(seed: int, side: int = 256) -> Image:
    """Blurred noise: as detailed as a face, and unlike that of any other seed."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def still(number: int, **changed: Any) -> dict[str, Any]:
    """A row that serves both tables."""
    row: dict[str, Any] = dict.fromkeys((*CROPS_SCHEMA.names, *INPUTS_SCHEMA.names))
    row |= {"media_id": f"{number:016d}", "dataset": "made", "name": f"{number}.png", "label": number % 2, "method": ""}
    row |= {"group": f"g{number}", "split": "train", "kind": "image", "crop": f"crops/{number}.jpg", "frame_index": 0}
    row |= {"track": 0, "x1": 10.0, "y1": 20.0, "x2": 60.0, "y2": 120.0, "confidence": 0.9, "landmarks": []}
    row |= {"crop_scale": 1.3, "sha256": str(number), "state": "ok", "reason": "", "width": 640, "height": 480}
    return row | {"as_is": False, "frames_with_face": 1, "crops": 1} | changed


Make = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """Writes a folder of extracted faces: rows, and the picture of each."""

    def make(rows: list[dict[str, Any]], pictures: list[bytes], lost: list[dict[str, Any]] | None = None) -> Path:
        folder = tmp_path / "faces"
        (folder / "crops").mkdir(parents=True)
        for row, data in zip(rows, pictures, strict=True):
            (folder / row["crop"]).write_bytes(data)
        crop_rows = [{name: row[name] for name in CROPS_SCHEMA.names} for row in rows]
        input_rows = [{name: row[name] for name in INPUTS_SCHEMA.names} for row in [*rows, *(lost or [])]]
        write_table(folder / MANIFEST, CROPS_SCHEMA, crop_rows)
        write_table(folder / INPUTS, INPUTS_SCHEMA, input_rows)
        return folder

    return make


class Page(HTMLParser):
    """Notes tags and checks that every one is closed."""

    VOID = {"meta", "img", "br"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.counts: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def check_page(done: Explored) -> Page:
    text = done.page.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"base64,[\w+/=]+", "", text))
    assert page.counts["script"] == page.counts["link"] == page.counts["a"] == 0
    assert page.counts["table"] == page.counts["caption"] > 0
    assert not any(name.startswith("on") for name in page.attributes)
    for image in page.images:
        kind, data = (image["src"] or "").split(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        assert (image["alt"] or "").strip()
        assert cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR) is not None
    return page


def summary_of(done: Explored) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(done.summary.read_text(encoding="utf-8"))
    return values


def test_numbers_of_extracted_clips(faces: Path, tmp_path: Path) -> None:
    done = explore(faces, tmp_path / "out", sheet_size=7)
    summary, columns = summary_of(done), read_manifest(faces).columns
    check_page(done)
    assert (done.inputs, done.crops, done.missing, done.damaged) == (16, len(columns["crop"]), 0, 0)
    assert summary["states"] == {"ok": 16}
    for split, row in summary["counts"]["split"]["crops"].items():
        for label, name in ((0, "real"), (1, "fake")):
            expected = [(s, n) for s, n in zip(columns["split"], columns["label"], strict=True)].count((split, label))
            assert row.get(name, 0) == expected
    assert list(summary["counts"]["dataset"]["inputs"].values()) == [{"real": 8, "fake": 8}]
    assert summary["clips"] == {"clips": 16, "people": {"1": {"real": 8, "fake": 8}}}
    frames = [row["frames_with_face"] for row in read_inputs(faces)]
    assert sum(map(sum, summary["measures"]["frames_with_face"]["counts"].values())) == len(frames)
    assert summary["duplicates"]["compared"] + summary["duplicates"]["flat"] == 16
    for label in ("real", "fake"):
        sheet = cv2.imread(str(done.out / f"sheet_{label}.png"))
        assert sheet is not None
        assert sheet.shape == (96, 7 * 96, 3)


def test_the_same_folder_gives_the_same_results(faces: Path, tmp_path: Path) -> None:
    one, two = (explore(faces, tmp_path / name, sample=10, workers=n) for name, n in (("a", 1), ("b", 3)))
    assert {**summary_of(one), "seconds": 0} == {**summary_of(two), "seconds": 0}
    assert summary_of(one)["sample"] == {"at_most": 10, "crops": 10, "measured": 10}
    assert one.duplicates.read_bytes() == two.duplicates.read_bytes()


def test_measures_of_made_up_crops(made: Make, tmp_path: Path) -> None:
    sizes = [(640, 480), (640, 480), (640, 480), (320, 240)]
    rows = [still(i, width=w, height=h, confidence=0.8 + i / 20) for i, (w, h) in enumerate(sizes)]
    rows[3]["x2"] = 210.0
    rows[0]["as_is"] = True
    lost = [still(8, state="no_face", reason="no face in 1 frame"), still(9, state="corrupt", reason="cut", kind=None)]
    grey = [encode_jpeg(np.full((256, 256, 3), level, np.uint8), 95) for level in (0, 100, 200, 255)]
    summary = summary_of(explore(made(rows, grey, lost), tmp_path / "out"))
    assert summary["states"] == {"ok": 4, "no_face": 1, "corrupt": 1}
    assert summary["reasons"][0] == {
        "state": "no_face",
        "reason": "no face in 1 frame",
        "inputs": 1,
        "example": "8.png",
    }
    assert summary["stills"]["commonest"][:2] == [
        {"width": 640, "height": 480, "stills": 4},
        {"width": 320, "height": 240, "stills": 1},
    ]
    measures = summary["measures"]
    assert measures["box_side"]["quantiles"]["real"] == pytest.approx([100, 100, 100])
    assert measures["box_side"]["quantiles"]["fake"] == pytest.approx([105, 150, 195])  # of 100 and 200
    assert measures["brightness"]["quantiles"]["real"][1] == pytest.approx(100, abs=1)  # of 0 and 200
    assert measures["brightness"]["quantiles"]["fake"][1] == pytest.approx(177.5, abs=1)  # of 100 and 255
    assert measures["confidence"]["quantiles"]["real"] == pytest.approx([0.9] * 3)  # the one that a detector found
    assert measures["sharpness"]["only"] == 0
    assert summary["duplicates"]["flat"] == 4


def test_sharpness_against_another_implementation(tmp_path: Path) -> None:
    path = tmp_path / "crop.png"
    cv2.imwrite(str(path), picture(3))
    seen = look(path)
    assert isinstance(seen, Look)
    luma = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert luma is not None
    inner = laplace(luma.astype(float))[2:-2, 2:-2]
    assert seen.sharpness == pytest.approx(inner.var(), rel=0.05)  # the borders are extended differently
    assert seen.brightness == pytest.approx(luma.mean(), abs=0.5)


def test_planted_duplicates_are_found_and_other_pictures_are_not(made: Make, tmp_path: Path) -> None:
    splits = ["train", "train", "validation", "test"] * 5
    rows = [still(i, split=splits[i]) for i in range(20)]
    pictures = [encode_jpeg(picture(i), 95) for i in range(20)]
    pictures[2] = encode_jpeg(picture(0), 50)  # train 0, encoded anew, in validation
    pictures[7] = encode_jpeg(picture(4, 120), 60)  # train 4, smaller, in test, with the other label
    pictures[5] = encode_jpeg(picture(9), 50)  # both in train: no leak
    pictures[11], rows[11]["sha256"] = pictures[1], rows[1]["sha256"]  # the same file in train and test
    rows[2]["name"] = "=1+1"
    done = explore(made(rows, pictures), tmp_path / "out")
    check_page(done)
    with done.duplicates.open(encoding="utf-8", newline="") as file:
        found = {(row["a_crop"], row["b_crop"]): row for row in csv.DictReader(file)}
    named = {tuple(sorted((f"crops/{a}.jpg", f"crops/{b}.jpg"))) for a, b in ((0, 2), (4, 7), (1, 11))}
    assert {tuple(sorted(pair)) for pair in found} == named
    conflicts = {pair for pair, row in found.items() if row["labels_differ"] == "True"}
    assert {tuple(sorted(pair)) for pair in conflicts} == {("crops/4.jpg", "crops/7.jpg")}
    same = {tuple(sorted(pair)) for pair, row in found.items() if row["same_file"] == "True"}
    assert same == {("crops/1.jpg", "crops/11.jpg")}
    assert "'=1+1" in {row[f"{side}_name"] for row in found.values() for side in "ab"}
    assert (done.pairs, done.label_conflicts) == (3, 1)
    assert "labels differ" in done.page.read_text(encoding="utf-8")


def test_near_pairs_against_every_pair() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 2**63, 40, dtype=np.uint64)
    hashes = [
        int(code) ^ (1 << int(bit)) ^ (1 << int(other))
        for code in base
        for bit, other in random.integers(0, 63, (3, 2))
    ]
    splits = [("a", "b", "c")[i] for i in random.integers(0, 3, len(hashes))]
    expected = {
        (i, j, (hashes[i] ^ hashes[j]).bit_count())
        for i in range(len(hashes))
        for j in range(len(hashes))
        if splits[i] < splits[j] and (hashes[i] ^ hashes[j]).bit_count() <= 4
    }
    pairs = near_pairs(hashes, splits, 4)
    assert set(zip(pairs.first, pairs.second, pairs.distance, strict=True)) == expected
    assert pairs.by_distance == Counter(distance for *_, distance in expected)
    assert list(pairs.distance) == sorted(pairs.distance)
    few = near_pairs(hashes, splits, 4, most=5)
    assert list(few.distance) == sorted(d for *_, d in expected)[:5]
    assert few.found == len(expected)
    assert near_pairs([], [], 4).found == 0


def test_many_equal_pictures_do_not_fill_the_memory() -> None:
    pairs = near_pairs([7] * 6000, ["a", "b"] * 3000, 4, most=100)
    assert (pairs.found, len(pairs.first)) == (9_000_000, 100)


def test_the_hash_is_that_of_imagehash() -> None:
    import imagehash
    from PIL import Image as PillowImage

    luma = np.asarray(cv2.cvtColor(picture(5), cv2.COLOR_RGB2GRAY))
    assert f"{perceptual_hash(luma):016x}" == str(imagehash.phash(PillowImage.fromarray(luma)))


def test_names_are_escaped(made: Make, tmp_path: Path) -> None:
    evil = {"name": EVIL, "dataset": EVIL, "method": EVIL, "split": EVIL}
    rows = [still(0, **evil, group="a"), still(1, **evil, group="b"), still(2, group="c"), still(3, group="d", **evil)]
    rows[0]["reason"], rows[0]["state"] = EVIL, "partial"
    pictures = [encode_jpeg(picture(i), 90) for i in (0, 1, 0, 3)]
    page = check_page(explore(made(rows, pictures), tmp_path / "out"))
    text = (tmp_path / "out" / "explore.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "\u202e" not in text
    assert all((image["src"] or "").startswith("data:") for image in page.images)


def test_difficult_folder_names(made: Make, tmp_path: Path) -> None:
    folder = made([still(0), still(1)], [encode_jpeg(picture(i), 90) for i in range(2)])
    done = explore(folder.rename(tmp_path / "f<b>\n'&"), tmp_path / "not utf-8 \udcff")
    check_page(done)
    assert (done.missing, done.damaged) == (0, 0)
    assert "f&lt;b&gt;\\n&#39;&amp;" in done.page.read_text(encoding="utf-8")


def test_a_crop_whose_name_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.jpg"
    path.write_bytes(encode_jpeg(picture(0), 90))
    assert isinstance(look(path), Look)
    assert printable("a\udcffü\n") == "a\\udcffü\\n"


def test_missing_and_damaged_crops_are_counted_and_named(made: Make, tmp_path: Path) -> None:
    pictures = [encode_jpeg(picture(i), 90) for i in range(5)]
    folder = made([still(i, split=None) for i in range(5)], [*pictures[:2], b"", b"no picture", pictures[4]])
    (folder / "crops/1.jpg").unlink()
    done = explore(folder, tmp_path / "out")
    check_page(done)
    assert (done.missing, done.damaged, done.opened) == (1, 2, 5)
    files = summary_of(done)["files"]
    assert files["missing_names"] == ["crops/1.jpg"]
    assert files["damaged_names"] == ["crops/2.jpg", "crops/3.jpg"]
    assert "missing: crops/1.jpg" in done.page.read_text(encoding="utf-8")
    assert look(folder / "crops") is Fault.MISSING


@pytest.mark.parametrize("label", [0, None])
def test_one_label_only(made: Make, tmp_path: Path, label: int | None) -> None:
    rows = [still(i, label=label, split=None) for i in range(3)]
    done = explore(made(rows, [encode_jpeg(picture(i), 90) for i in range(3)]), tmp_path / "out")
    check_page(done)
    name = {0: "real", None: "unlabelled"}[label]
    assert summary_of(done)["counts"]["split"]["crops"] == {"(none)": {name: 3}}
    assert "only one split" in done.page.read_text(encoding="utf-8")
    assert [path.name for path in done.out.glob("sheet_*.png")] == [f"sheet_{name}.png"]


def test_inputs_without_any_face_give_a_page_with_the_reasons(made: Make, tmp_path: Path) -> None:
    done = explore(made([], [], [still(0, state="no_face", reason="nobody there")]), tmp_path / "out")
    check_page(done)
    text = done.page.read_text(encoding="utf-8")
    assert "There is no face in this folder" in text
    assert "nobody there" in text


def test_nothing_at_all(made: Make, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="dfpipe extract"):
        explore(made([], []), tmp_path / "out")
    with pytest.raises(SourceError, match="dfpipe extract"):
        explore(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="at least 1"):
        explore(tmp_path, tmp_path / "out", sheet_size=0)
    assert not (tmp_path / "out").exists()


def test_a_second_look_leaves_no_picture_of_the_first(made: Make, tmp_path: Path, faces: Path) -> None:
    out = tmp_path / "out"
    explore(faces, out)
    assert (out / "sheet_fake.png").exists()
    (out / "mine.png").write_bytes(b"kept")
    explore(made([still(0), still(2)], [encode_jpeg(picture(i), 90) for i in range(2)]), out)
    assert not (out / "sheet_fake.png").exists()
    assert (out / "mine.png").exists()


def test_without_the_libraries_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from pathlib import Path\n"
        "from dfpipe.preprocess.explore import explore\n"
        "explore(Path(sys.argv[1]), Path(sys.argv[1]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "UsageError: explore needs matplotlib: pip install 'dfpipe[explore]'" in run.stderr


def test_one_crop_per_clip_and_every_crop_of_a_still(made: Make) -> None:
    clip = [
        still(1, kind="video", crop=f"crops/1_{i}_{t}.jpg", frame_index=i, track=t) for i in range(5) for t in (0, 1)
    ]
    stills = [still(2, crop=f"crops/2_{t}.jpg", track=t) for t in (0, 1)]
    manifest = read_manifest(made([*clip, *stills], [b""] * 12))
    assert [manifest.columns["crop"][row] for row in rows_to_compare(manifest)] == [
        "crops/1_2_0.jpg",
        "crops/2_0.jpg",
        "crops/2_1.jpg",
    ]


def test_a_sheet_shows_as_many_sources_as_it_can(made: Make) -> None:
    groups = ["a"] * 50 + ["b"] * 2 + ["c"]
    rows = [still(i, group=group, label=0) for i, group in enumerate(groups)]
    manifest = read_manifest(made(rows, [b""] * len(rows)))
    chosen = sheet_rows(manifest, range(len(rows)), 6)
    assert Counter(groups[row] for row in chosen) == {"a": 2, "b": 2, "c": 1}
    assert [groups[row] for row in sheet_rows(manifest, range(len(rows)), 4)] == ["a", "b", "c", "a"]
    assert {groups[row] for row in sheet_rows(manifest, range(len(rows)), 3)} == {"a", "b", "c"}
    assert spread_over(range(10), 4) == [0, 2, 5, 7]


@pytest.mark.parametrize(
    "bins",
    [tallies.octave_bins, tallies.decade_bins, tallies.byte_bins, tallies.share_bins, tallies.whole_bins],
)
@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [0.3, 0.5, 1.0], [3.0, 250.0, 255.0], [64.0, 128.0]])
def test_every_value_falls_into_a_bin(bins: Any, values: list[float]) -> None:
    spread = tallies.spread([*values, None, float("nan")], [0] * (len(values) + 2), bins)
    assert sum(spread.counts["real"]) == len(values)
    assert list(spread.edges) == sorted(set(spread.edges))
    assert charts.histogram("t", "u", spread).startswith(b"\x89PNG")
