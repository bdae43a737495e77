"""Makes the pictures of the README from a real run: the report, the web page and the terminal.

    dfpipe demo --out data/demo
    python docs/pictures/make.py --demo data/demo

Everything shown is made up: one public-domain portrait (the astronaut Eileen Collins, NASA, inside scikit-image), moved and
tampered with by dfpipe/demo.py, and judged by the model that the demo has trained on such clips alone. Needs the extra dev,
chromium and chromedriver (Debian: apt-get install chromium chromium-driver). Takes about a minute on two cores.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import terminal
from PIL import Image as PillowImage
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dfpipe.demo import FRAMES, SIDE, SOURCES, clip_frames, write_clip
from dfpipe.types import Image, Label

HERE = Path(__file__).parent
DFPIPE = [sys.executable, "-m", "dfpipe"]
FRAMES_LOOKED_AT = "32"
WIDTH = 960  # px: six faces of the report fit into a row
QUALITY = 88  # of WebP: text stays sharp, and each picture stays far below 300 kB
PATIENCE_S = 120
SETTLE_S = 0.5  # until a frame of the clip is drawn
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-prefers-reduced-motion")


def main() -> None:
    """Parses the flags and makes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("data/demo"), help="what `dfpipe demo --out` wrote")
    parser.add_argument("--out", type=Path, default=HERE, help="where the pictures go")
    flags = parser.parse_args()
    models = sorted(flags.demo.glob("runs/*/model.safetensors"))
    if not models:
        parser.error(f"there is no model in {flags.demo}: run `dfpipe demo --out {flags.demo}` first")
    with tempfile.TemporaryDirectory() as name, browser() as chromium:
        folder = Path(name)
        shutil.copy(models[-1], folder / "model.safetensors")
        make_uploads(folder / "uploads")
        picture_terminal(folder, flags.out / "terminal.svg")
        picture_report(chromium, folder, flags.out / "report.webp")
        picture_page(chromium, folder, flags.out / "page.webp")
    for path in sorted([*flags.out.glob("*.webp"), *flags.out.glob("*.svg")]):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


# ---- what is judged --------------------------------------------------------------------------------------------------


def make_uploads(folder: Path) -> None:
    """Clips as people send them: two people of whom one is swapped after two seconds, one person, no face, a cut file."""
    left = chain(*(clip_frames(SOURCES + 1, Label.REAL) for _ in range(4)))
    right = chain(clip_frames(SOURCES, Label.REAL), *(clip_frames(SOURCES, Label.FAKE) for _ in range(3)))
    write_clip(folder / "interview.mp4", (np.hstack(pair) for pair in zip(left, right, strict=True)))
    write_clip(folder / "portrait.mp4", clip_frames(SOURCES + 2, Label.REAL))
    write_clip(folder / "landscape.mp4", ramp())
    (folder / "cut off.mp4").write_bytes((folder / "interview.mp4").read_bytes()[:2000])


def ramp() -> Iterator[Image]:
    """A moving ramp of grey: no face."""
    row = np.arange(SIDE, dtype=np.uint8)
    for i in range(FRAMES):
        yield np.tile((row + 4 * i)[None, :, None], (SIDE, 1, 3))


# ---- the pictures ----------------------------------------------------------------------------------------------------


def picture_terminal(folder: Path, out: Path) -> None:
    """The screen after `dfpipe infer` of a folder, as text."""
    words = ["infer", "uploads/", "--model", "model.safetensors", "--frames", FRAMES_LOOKED_AT, "--heatmap"]
    prompt = f"$ dfpipe {' '.join(words)}\r\n"
    rows = terminal.screen(prompt + terminal.run([*DFPIPE, *words], folder))
    out.write_text(terminal.svg(rows, "dfpipe infer judges a folder of made-up clips"), encoding="utf-8")


def picture_report(chromium: Any, folder: Path, out: Path) -> None:
    """The report on the clip with two people, down to the faces."""
    (report,) = folder.glob("verdicts/interview-*/report.html")
    size(chromium, 900)
    chromium.get(report.as_uri())
    shoot(chromium, out, chromium.execute_script(top_of("The file")))


def picture_page(chromium: Any, folder: Path, out: Path) -> None:
    """The web page after the same clip was sent to it through the page."""
    words = ["serve", "--port", "0", "--data", "service", "--model", "model.safetensors", "--frames", FRAMES_LOOKED_AT]
    server = subprocess.Popen([*DFPIPE, *words], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        size(chromium, 900)
        chromium.get(server.stdout.readline().split()[-1])  # type: ignore[union-attr]
        chromium.find_element(By.ID, "files").send_keys(str(folder / "uploads" / "interview.mp4"))
        WebDriverWait(chromium, PATIENCE_S).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".badge.big"))
        WebDriverWait(chromium, PATIENCE_S).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".faces img"))
        time.sleep(SETTLE_S)
        shoot(chromium, out, chromium.execute_script(top_of("Faces to look at")))
    finally:
        server.terminate()
        server.wait()


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    one = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield one
    one.quit()


def top_of(heading: str) -> str:
    """JavaScript: how far below the top of the page a heading begins, px."""
    return f"return [...document.querySelectorAll('h2')].find((one) => one.textContent === {heading!r}).offsetTop"


def size(chromium: Any, height: int) -> None:
    """Sets the height of the view, px."""
    metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def shoot(chromium: Any, out: Path, height: int) -> None:
    """A picture of the top of a page."""
    size(chromium, height)
    time.sleep(SETTLE_S)
    with PillowImage.open(BytesIO(chromium.get_screenshot_as_png())) as picture:
        picture.convert("RGB").save(out, quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
