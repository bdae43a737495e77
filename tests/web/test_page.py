"""The page in a real browser, against a really running server.

Screenshots of each state are written to the folder in the environment variable DFPIPE_SCREENSHOTS, if there is one: look at
them after a change.
"""

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PillowImage

from dfpipe.demo import clip_frames, write_clip
from dfpipe.types import Image, Label

webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra dev")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PAGE = Path(__file__).parents[2] / "web" / "page"
HOSTILE = "<img src=x onerror=document.title='hit'>.mp4"
PHONE = 360  # px, of the smallest phones in use
PATIENCE_S = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # in a container there is none to be had
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
    "--force-prefers-reduced-motion",  # no smooth scrolling away from under a click
)


class Browser:
    """Chromium at the page of one server."""

    def __init__(self, url: str, shots: Path) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.url, self.shots = url, shots

    def open(self, address: str = "#/") -> "Browser":
        """Loads the page anew."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/{address}")
        return self

    def go(self, address: str) -> "Browser":
        """Follows a link within the page."""
        self.run("location.hash = arguments[0]", address)
        return self

    def run(self, script: str, *values: Any) -> Any:
        """JavaScript in the page."""
        return self.driver.execute_script(script, *values)

    def all(self, css: str) -> list[Any]:
        """Elements that are shown."""
        return [one for one in self.driver.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()]

    def until(self, what: Callable[[], Any]) -> Any:
        """Waits until something is true."""
        return WebDriverWait(self.driver, PATIENCE_S, 0.05, [StaleElementReferenceException]).until(lambda _: what())

    def wait(self, css: str, text: str = "") -> Any:
        """Waits for an element that is shown and has a text."""
        return self.until(lambda: next((one for one in self.all(css) if text in (one.text or "")), None))

    def text(self, css: str = "main") -> str:
        """What stands in an element."""
        return str(self.wait(css).text)

    def choose(self, *files: Path) -> None:
        """Chooses files from the disk."""
        self.wait(".drop")
        self.driver.find_element(By.ID, "files").send_keys("\n".join(map(str, files)))

    def press(self, *keys: str) -> None:
        """Presses keys, at whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def size(self, width: int = 1200, height: int = 900) -> None:
        """Sets the size of the view, in px."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, dark: bool) -> None:
        """Sets what the system prefers."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def offline(self, offline: bool) -> None:
        """Cuts the connection."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        state = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", state)

    def shoot(self, name: str, width: int = 1200) -> None:
        """Takes a picture of the whole page, where pictures are wanted."""
        if "DFPIPE_SCREENSHOTS" not in os.environ:
            return
        self.size(width)
        time.sleep(0.4)  # until a frame of the clip is drawn
        self.size(width, max(900, self.run("return document.documentElement.scrollHeight")))
        time.sleep(0.2)
        self.driver.save_screenshot(str(self.shots / f"{name}.png"))
        self.size()

    def complaints(self) -> list[str]:
        """Errors that the page raised and rules of its policy that it broke, since the last call."""
        return [
            one["message"] for one in self.driver.get_log("browser") if "Failed to load resource" not in one["message"]
        ]


@pytest.fixture(scope="module")
def service(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a short queue that takes small files."""
    return start_server(tmp_path_factory.mktemp("page") / "data", "--queue", "1", "--max-mb", "2").ready()


@pytest.fixture(scope="module")
def chromium(service: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser that all tests share."""
    wanted = os.environ.get("DFPIPE_SCREENSHOTS")
    shots = Path(wanted) if wanted else tmp_path_factory.mktemp("screenshots")
    shots.mkdir(parents=True, exist_ok=True)
    one = Browser(service.url, shots)
    yield one
    one.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The shared browser, as a user finds it; in the end no test may have left an error in the page."""
    chromium.size()
    chromium.dark(False)
    chromium.complaints()
    yield chromium
    chromium.offline(False)
    assert chromium.complaints() == []


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, portrait: Image) -> dict[str, Path]:
    """Files to upload: two people of whom one is tampered with, a picture, and such as cannot be judged."""
    folder = tmp_path_factory.mktemp("media")
    names = {"two": HOSTILE, "none": "no face.mp4", "broken": "broken.mp4", "still": "portrait.jpg", "big": "big.mp4"}
    files = {key: folder / name for key, name in names.items()}
    pairs = zip(clip_frames(0, Label.REAL), clip_frames(1, Label.FAKE), strict=True)
    write_clip(files["two"], (np.hstack(pair) for pair in pairs))
    ramp = np.arange(160, dtype=np.uint8)
    write_clip(files["none"], (np.tile((ramp + 4 * i)[None, :, None], (160, 1, 3)) for i in range(24)))
    files["broken"].write_text("<html>404: there is no such clip</html>")
    lying = PillowImage.fromarray(portrait[:400]).transpose(PillowImage.Transpose.ROTATE_90)
    exif = PillowImage.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be shown turned by 90 degrees clockwise: cameras held upright write this
    lying.save(files["still"], exif=exif)
    with files["big"].open("wb") as file:
        file.truncate(3_000_000)
    return files


@pytest.fixture(scope="module")
def judged(service: Any, media: dict[str, Path]) -> dict[str, Any]:
    """Jobs that have ended, by key of `media`."""
    jobs = {}
    for key in ("two", "none", "broken", "still"):
        job = service.upload(media[key].name, media[key].read_bytes())
        jobs[key] = service.ended(job["id"])
    return jobs


@pytest.fixture
def forged(service: Any) -> Iterator[Callable[[str, str], str]]:
    """Writes jobs that failed into the list of the server; they are gone after the test. Returns the id."""
    made: list[str] = []
    with closing(sqlite3.connect(service.data / "jobs.sqlite", isolation_level=None)) as db:

        def forge(name: str, error: str) -> str:
            made.append(f"{len(made):032x}")
            db.execute(
                "INSERT INTO jobs (id, name, bytes, sha256, content_type, overlay, state, created, ended, error)"
                "VALUES (?, ?, 1, '', '', 0, 'failed', ?, ?, ?)",
                (made[-1], name, time.time(), time.time(), error),
            )
            return made[-1]

        yield forge
        db.executemany("DELETE FROM jobs WHERE id = ?", [(one,) for one in made])


# ---- from a file to a verdict ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clip_from_disk_shows_its_progress_then_its_verdict(browser: Browser, media: dict[str, Path]) -> None:
    browser.open()
    assert "at most 2 MB each" in browser.wait("#limits", "MP4").text
    browser.shoot("home")
    browser.run(
        "window.said = []; new MutationObserver(() => document.querySelectorAll('.now, .upload .state, .badge.big')"
        ".forEach((one) => said.at(-1) !== one.textContent && said.push(one.textContent)))"
        ".observe(document, {subtree: true, childList: true, characterData: true})"
    )
    browser.choose(media["two"])
    browser.wait(".progress .now", "…")
    browser.shoot("progress")
    word = browser.wait(".badge.big").text
    assert word in ("FAKE", "REAL", "UNCERTAIN")
    said = browser.run("return said")
    assert "Uploading." in said or "Uploaded, being received." in said
    assert any(one.startswith(("Reading the file", "Scoring the faces")) for one in said), said
    assert said[-1] == word


def test_the_result_is_what_the_report_says(browser: Browser, service: Any, judged: dict[str, Any]) -> None:
    job = judged["two"]
    report = service.client.get(job["links"]["report_json"]).json()
    assert len(report["people"]) == 2, "the clip is made of two people"
    browser.open(f"#/job/{job['id']}")
    answer = browser.text(".answer")
    assert answer.startswith("The answer") or report["verdict"] in answer
    assert report["reason"][1:] in answer
    assert f"Score {report['p_fake']:.2f} of 1" in answer
    assert len(browser.all(".plot polyline")) == 2
    assert len(browser.all(".plot [class^=person-] circle")) == len(report["scores"])
    faces = browser.wait(".faces img").get_attribute("naturalWidth")
    assert int(faces) == 160, "the faces of the report are shown"
    assert "does not tell you" in browser.text("main")
    assert "evidence, not proof" in browser.text("section[aria-labelledby=not-told]")
    browser.shoot("result")


@pytest.mark.parametrize("size", [(900, 300), (300, 500)], ids=["bars at the sides", "bars above and below"])
def test_boxes_lie_where_the_report_says(
    browser: Browser, service: Any, judged: dict[str, Any], size: tuple[int, int]
) -> None:
    """Also where the clip does not fill its element: the black bars must be taken into account."""
    report = service.client.get(judged["two"]["links"]["report_json"]).json()
    browser.open(f"#/job/{judged['two']['id']}")
    browser.wait(".stage canvas")
    resize = "const {style} = document.querySelector('.stage video'); [style.width, style.height] = arguments"
    browser.run(resize, *(f"{side}px" for side in size))
    now = "const one = document.querySelector('canvas'); return [one.clientWidth, one.clientHeight]"
    browser.until(lambda: browser.run(now) == list(size))
    browser.until(lambda: "1:" in (browser.run("return document.querySelector('canvas').dataset.marks") or ""))
    drawn = browser.run(
        "const c = document.querySelector('canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let found = [c.width, c.height, 0, 0];"
        "for (let i = 3; i < d.length; i += 4) if (d[i]) { const x = (i >> 2) % c.width, y = Math.floor((i >> 2) / c.width);"
        "found = [Math.min(found[0], x), Math.min(found[1], y), Math.max(found[2], x), Math.max(found[3], y)]; }"
        "return [found, c.width, c.height]"
    )
    (left, _, right, bottom), width, height = drawn
    factor = min(width / report["media"]["width"], height / report["media"]["height"])
    beside = (width - factor * report["media"]["width"]) / 2
    above = (height - factor * report["media"]["height"]) / 2
    time_s = browser.run("return document.querySelector('video').currentTime")
    near = min((s["time_s"] for s in report["scores"]), key=lambda other: abs(other - time_s))
    boxes = [s["box"] for s in report["scores"] if s["time_s"] == near]
    rim = 4 + 8  # px: half the thickest line with its rim, and the way of a face in half a frame
    assert left == pytest.approx(beside + factor * min(box[0] for box in boxes), abs=rim)
    assert right >= beside + factor * max(box[2] for box in boxes) - rim
    lowest = above + factor * max(box[3] for box in boxes)
    assert lowest - rim <= bottom <= lowest + rim + 22, "a label may lie below its box"


def test_the_player_jumps_to_the_moments(browser: Browser, service: Any, judged: dict[str, Any]) -> None:
    report = service.client.get(judged["two"]["links"]["report_json"]).json()
    browser.open(f"#/job/{judged['two']['id']}")
    browser.wait(".stage video")
    time_s = "return document.querySelector('video').currentTime"
    browser.wait(".controls button")
    for face in browser.all("button.face")[-2:]:
        shown = re.search(r"at 0:0(\d\.\d)", face.text)
        assert shown is not None
        face.click()
        wanted = float(shown[1])
        browser.until(lambda: 0 <= browser.run(time_s) - wanted < 0.15)  # noqa: B023, it waits here
    browser.until(lambda: browser.run("return document.querySelector('canvas').dataset.marks"))
    times = sorted({s["time_s"] for s in report["scores"]})
    plot = browser.wait(".plot")
    first = min(report["scores"], key=lambda s: (s["time_s"], -s["p_fake"]))
    centre = browser.run(
        "const box = arguments[0].getBoundingClientRect();"
        "const dots = [...arguments[0].querySelectorAll('[class^=person-] circle')];"
        "const dot = dots.reduce((a, b) => (+b.getAttribute('cx') < +a.getAttribute('cx') ? b : a));"
        "return [dot.getAttribute('cx') - box.width / 2, dot.getAttribute('cy') - box.height / 2]",
        plot,
    )
    mouse = webdriver.ActionChains(browser.driver)
    mouse.move_to_element_with_offset(plot, round(centre[0]), round(centre[1])).perform()
    assert re.search(rf"at 0:0{int(10 * times[0]) / 10}: score", browser.text(".readout")), first
    mouse.click().perform()
    browser.until(lambda: 0 <= browser.run(time_s) - times[0] < 0.05)
    browser.wait(".controls button", "next face").click()
    browser.until(lambda: 0 <= browser.run(time_s) - times[1] < 0.05)
    browser.wait("summary", "All scores").click()
    browser.until(lambda: len(browser.all(".timeline tbody tr")) == len(report["scores"]))
    browser.wait(".timeline tbody tr:first-child button").click()
    browser.until(lambda: 0 <= browser.run(time_s) - times[0] < 0.05)
    exact = " ".join(f"{s['track'] + 1}:{s['p_fake']:.2f}" for s in report["scores"] if s["time_s"] == times[0])
    browser.until(lambda: browser.run("return document.querySelector('canvas').dataset.marks") == exact)


def test_a_picture_that_lies_is_shown_upright_with_its_box(
    browser: Browser, service: Any, judged: dict[str, Any]
) -> None:
    report = service.client.get(judged["still"]["links"]["report_json"]).json()
    ((x1, y1, x2, y2),) = [score["box"] for score in report["scores"]]
    assert (report["media"]["width"], report["media"]["height"]) == (512, 400)
    assert x1 < 224 < x2, "the face of the portrait"
    assert y1 < 118 < y2, "the face of the portrait"
    browser.open(f"#/job/{judged['still']['id']}")
    browser.wait(".stage img")
    browser.until(
        lambda: (
            browser.run("return document.querySelector('canvas').dataset.marks") == f"1:{judged['still']['p_fake']:.2f}"
        )
    )
    size = "const one = document.querySelector('.stage img'); return [one.naturalWidth, one.naturalHeight]"
    assert browser.run(size) == [512, 400]
    assert not browser.all(".timeline")
    assert "in the picture" in browser.text("[aria-labelledby=people-title] td:last-child")
    browser.shoot("picture")


@pytest.mark.parametrize(
    ("key", "word", "advice"), [("broken", "NOT READ", "video player"), ("none", "NO FACE", "from the front")]
)
def test_what_cannot_be_judged_says_why_and_what_to_do(
    browser: Browser, judged: dict[str, Any], key: str, word: str, advice: str
) -> None:
    browser.open(f"#/job/{judged[key]['id']}")
    assert browser.wait(".badge.big").text == word
    answer = browser.text(".answer")
    assert judged[key]["reason"][1:] in answer
    assert advice in answer
    assert "never turned into a number" in answer
    browser.shoot(word.lower().replace(" ", "_"))


def test_a_clip_that_the_browser_cannot_play_says_so(browser: Browser, service: Any, tmp_path: Path) -> None:
    import av

    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        for image in list(clip_frames(2, Label.REAL))[:12]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    job = service.ended(service.upload(path.name, path.read_bytes())["id"])
    browser.open(f"#/job/{job['id']}")
    assert "cannot show this file (mpeg4)" in browser.text(".player .warn")
    assert browser.wait(".faces img"), "the faces of the report are shown all the same"
    browser.shoot("unplayable")


def test_a_hostile_name_is_shown_as_text(browser: Browser, judged: dict[str, Any]) -> None:
    browser.open("#/jobs")
    assert HOSTILE in browser.wait(".jobs", HOSTILE).text
    browser.go(f"#/job/{judged['two']['id']}")
    assert browser.wait("h1", HOSTILE)
    browser.wait(".answer")
    browser.wait("button.danger").click()
    assert HOSTILE in browser.text("#confirm-text")
    browser.press(Keys.ESCAPE)
    assert browser.run("return document.querySelectorAll('[onerror]').length") == 0
    assert browser.driver.title != "hit"


# ---- when the server says no -----------------------------------------------------------------------------------------


def test_a_file_that_is_too_big(browser: Browser, media: dict[str, Path]) -> None:
    browser.open()
    browser.choose(media["big"])
    assert "this server takes at most 2 MB" in browser.wait(".upload .bad").text
    browser.shoot("too_big")
    status, message = browser.driver.execute_async_script(
        "const done = arguments[0], file = new File([new Uint8Array(3e6)], 'big.mp4');"
        "Promise.all([import('/static/upload.js'), import('/static/words.js')]).then(([{upload}, {errorWords}]) =>"
        "upload(file, false, {onProgress() {}, onWait() {}}, new AbortController().signal)"
        ".then(() => done([202, '']), (error) => done([error.status, errorWords(error)])))"
    )
    assert status == 413, "also where only the server counts"
    assert message.startswith("The file is too big for this server")


@pytest.mark.slow
def test_a_full_queue_is_waited_for(browser: Browser, media: dict[str, Path], service: Any, tmp_path: Path) -> None:
    service.idle()
    files = [tmp_path / f"clip {i}.mp4" for i in range(3)]
    for i, path in enumerate(files):  # an empty box more makes of the same clip another file
        path.write_bytes(media["two"].read_bytes() + b"\0\0\0\x09free" + bytes([i]))
    browser.open()
    browser.run(
        "window.waits = 0; new MutationObserver(() => document.querySelectorAll('.upload .state').forEach((one) =>"
        "one.textContent.startsWith('The queue of the server is full') && waits++))"
        ".observe(document, {subtree: true, childList: true, characterData: true})"
    )
    browser.choose(*files)
    browser.wait(".upload .state", "queue of the server is full")
    browser.shoot("queue_full")
    browser.until(lambda: len(browser.all(".upload .actions .badge")) == len(files))
    browser.until(lambda: not browser.all(".upload .waiting"))
    assert browser.run("return waits") > 0
    assert {one.text for one in browser.all(".upload .badge")} <= {"FAKE", "REAL", "UNCERTAIN"}
    browser.shoot("uploads")


def test_files_can_be_dropped(browser: Browser, service: Any, judged: dict[str, Any]) -> None:
    browser.open()
    browser.wait("#limits", "MP4")
    browser.run(
        "const bag = new DataTransfer(); bag.items.add(new File(['no clip'], 'dropped.mp4'));"
        "const how = {dataTransfer: bag, bubbles: true, cancelable: true};"
        "const drop = (kind) => document.body.dispatchEvent(new DragEvent(kind, how));"
        "window.kept = [drop('dragover'), drop('drop')]"
    )
    browser.wait("h1", "dropped.mp4")
    assert browser.run("return kept") == [False, False], "the browser would open the file in place of the page"
    browser.wait(".badge.big", "NOT READ")


def test_a_full_disk(
    browser: Browser, start_server: Callable[..., Any], media: dict[str, Path], tmp_path: Path
) -> None:
    full = start_server(tmp_path / "data", "--min-free-mb", "100000000")
    browser.driver.get(full.url)
    browser.choose(media["still"])
    assert "Whoever runs it must make room" in browser.wait(".upload .bad").text
    assert browser.wait(".upload button", "Try again")
    browser.driver.get("about:blank")
    full.stop()


def test_a_check_that_the_service_could_not_finish(browser: Browser, forged: Callable[..., str]) -> None:
    browser.open("#/job/" + forged("unlucky.mp4", "the worker died twice at this file"))
    assert "The worker died twice at this file." in browser.wait(".answer").text
    assert "says nothing about whether the file is fake" in browser.text(".answer")
    browser.shoot("failed")


def test_an_upload_can_be_cancelled(browser: Browser, media: dict[str, Path], service: Any) -> None:
    before = service.client.get("/v1/jobs").json()["total"]
    browser.open()
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    browser.choose(media["two"])
    browser.until(lambda: float(browser.run("return document.querySelector('.upload progress').value")) > 0)
    browser.shoot("uploading")
    browser.wait(".upload button", "Cancel").click()
    browser.wait(".upload .state", "Cancelled")
    browser.offline(False)
    assert service.client.get("/v1/jobs").json()["total"] == before


def test_a_server_that_is_gone(browser: Browser, judged: dict[str, Any]) -> None:
    browser.open()
    browser.wait("#limits", "MP4")
    browser.offline(True)
    browser.go(f"#/job/{judged['two']['id']}")
    assert "cannot be reached" in browser.wait("main .warn").text
    browser.shoot("gone")
    browser.offline(False)
    browser.wait(".badge.big")


def test_a_check_that_is_not_there(browser: Browser) -> None:
    browser.open("#/job/" + "0" * 32)
    assert "deleted, or it has expired" in browser.wait("main .warn").text


def test_a_key_is_asked_for(
    browser: Browser, start_server: Callable[..., Any], media: dict[str, Path], tmp_path: Path
) -> None:
    locked = start_server(tmp_path / "data", DFPIPE_API_KEY="the right key, 123456")
    browser.driver.get(locked.url)
    browser.wait("#key-dialog #key").send_keys("a wrong one" + Keys.ENTER)
    browser.wait("#key-wrong", "did not accept")
    browser.shoot("key")
    browser.wait("#key").send_keys("the right key, 123456" + Keys.ENTER)
    browser.wait("#limits", "MP4")
    assert not browser.all("#key-dialog")
    browser.choose(media["still"])
    browser.wait("h1", "portrait.jpg")
    browser.wait(".progress")
    shown = browser.driver.execute_async_script(
        "const done = arguments[0]; import('/static/api.js').then(async ({getJson, source}) => {"
        "const {jobs} = await getJson('/v1/jobs'), picture = new Image();"
        "picture.onload = () => done([picture.src, picture.naturalWidth]); picture.onerror = () => done(['broken', 0]);"
        "picture.src = await source(jobs[0].links.media); })"
    )
    assert shown[0].startswith("blob:"), "a browser sends no key for pictures"
    assert shown[1] == 512, "upright"
    browser.driver.get("about:blank")
    locked.stop()


# ---- past checks -----------------------------------------------------------------------------------------------------


def test_past_checks_are_filtered_and_searched(browser: Browser, judged: dict[str, Any]) -> None:
    browser.open("#/jobs")
    browser.wait(".jobs a", "broken.mp4")
    browser.shoot("past")
    browser.wait("#filter").send_keys("not readable")
    browser.until(lambda: {one.text for one in browser.all(".jobs .badge")} == {"NOT READ"})
    assert "broken.mp4" in browser.text(".jobs")
    assert browser.run("return location.hash") == "#/jobs?verdict=ERROR"
    browser.open("#/jobs?verdict=NO_FACE&q=FACE")
    browser.until(lambda: [one.text for one in browser.all(".jobs a")] == ["no face.mp4"])
    browser.wait("#search").send_keys("x")
    browser.wait("main [role=status]", "No check is like this")
    browser.shoot("past_none")


def test_a_long_list_has_pages(browser: Browser, forged: Callable[..., str]) -> None:
    for i in range(21):
        forged(f"long list {i:02}.mp4", "it was forged")
    browser.open("#/jobs?q=long+list")
    browser.wait("main [role=status]", "21 checks, 1 to 20 shown")
    browser.wait("button", "Older").click()
    browser.until(lambda: [one.text for one in browser.all(".jobs a")] == ["long list 00.mp4"])
    assert browser.run("return location.hash") == "#/jobs?q=long+list&page=2"
    browser.wait("button", "Newer").click()
    browser.until(lambda: len(browser.all(".jobs a")) == 20)


def test_the_back_button_returns(browser: Browser, judged: dict[str, Any]) -> None:
    browser.open("#/jobs?verdict=ERROR")
    browser.wait(".jobs a").click()
    browser.wait(".badge.big", "NOT READ")
    browser.driver.back()
    browser.wait("h1", "Past checks")
    browser.until(lambda: {one.text for one in browser.all(".jobs .badge")} == {"NOT READ"})


def test_a_check_is_deleted(browser: Browser, service: Any, media: dict[str, Path]) -> None:
    job = service.ended(service.upload("to delete.mp4", media["broken"].read_bytes() + b" ")["id"])
    browser.open(f"#/job/{job['id']}")
    browser.wait("button.danger", "Delete").click()
    browser.wait("#confirm-dialog")
    browser.shoot("delete")
    browser.wait("#confirm-no").click()
    assert service.client.get(f"/v1/jobs/{job['id']}").status_code == 200
    browser.wait("button.danger", "Delete").click()
    browser.wait("#confirm-yes").click()
    browser.wait("h1", "Past checks")
    assert service.client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert "to delete.mp4" not in browser.text(".jobs")


# ---- for everybody ---------------------------------------------------------------------------------------------------


def test_by_keyboard_alone(browser: Browser, service: Any, judged: dict[str, Any]) -> None:
    browser.open()
    browser.wait("#limits", "MP4")
    browser.wait(".jobs a")
    reached = []
    for _ in range(7):
        browser.press(Keys.TAB)
        reached.append(browser.run("return document.activeElement.id || document.activeElement.textContent.trim()"))
        seen = browser.run(
            "const one = document.activeElement, zone = one.closest('.drop') ?? one;"
            "return getComputedStyle(zone).outlineStyle"
        )
        assert seen == "solid", f"the focus cannot be seen at {reached[-1]}"
    assert reached == ["skip", "dfpipe", "Check a file", "Past checks", "The model", "files", "overlay"]
    browser.open("#/jobs?verdict=UNCERTAIN")
    browser.open(f"#/job/{judged['two']['id']}")
    browser.wait(".stage video")
    browser.run("document.querySelector('.plot').focus()")
    plot = browser.wait(".plot")
    assert plot.get_attribute("role") == "slider"
    browser.press(Keys.HOME)
    first = plot.get_attribute("aria-valuetext")
    browser.press(Keys.ARROW_RIGHT)
    second = plot.get_attribute("aria-valuetext")
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert first != second
    assert second.startswith(first[:8])
    report = service.client.get(judged["two"]["links"]["report_json"]).json()
    track = int(first[7]) - 1
    wanted = sorted(s["time_s"] for s in report["scores"] if s["track"] == track)[1]
    browser.press(Keys.ENTER)
    browser.until(lambda: 0 <= browser.run("return document.querySelector('video').currentTime") - wanted < 0.05)
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.closest('.plot')") is None, "no trap"


def test_the_focus_follows_to_the_next_page(browser: Browser, judged: dict[str, Any]) -> None:
    browser.open("#/jobs?verdict=ERROR")
    link = browser.wait(".jobs a")
    link.send_keys(Keys.ENTER)
    browser.until(lambda: browser.run("return document.activeElement.tagName") == "H1")
    browser.run("document.querySelector('#skip').focus()")
    browser.press(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "main"
    assert browser.run("return location.hash").startswith("#/job/")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(browser: Browser, judged: dict[str, Any], dark: bool) -> None:
    """Of every text that is shown: 4.5, or 3 where it is large, as WCAG 2.2 asks for at level AA."""
    browser.dark(dark)
    for address in ("#/", "#/jobs", "#/about", *(f"#/job/{job['id']}" for job in judged.values())):
        browser.open(address)
        browser.wait(".badge, .fact-table")
        weak = browser.run(CONTRAST)
        assert weak == [], address
        ground = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 26)") is dark
    browser.go(f"#/job/{judged['two']['id']}")
    browser.wait(".stage canvas")
    browser.shoot(f"result_{'dark' if dark else 'light'}")


CONTRAST = """
const part = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (one) => { for (; one; one = one.parentElement) {
  const colour = numbers(getComputedStyle(one).backgroundColor);
  if (colour.length === 3 || colour[3] === 1) return colour; } };
return [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility({visibilityProperty: true})
  && [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && !one.closest(".skip")).flatMap((one) => {
  const style = getComputedStyle(one), ink = numbers(one.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(ink), light(ground(one))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  return ratio < (large ? 3 : 4.5) ? [`${one.tagName} ${one.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`] : [];
});
"""


def test_on_a_phone_nothing_sticks_out(browser: Browser, judged: dict[str, Any]) -> None:
    for i, address in enumerate(("#/", "#/jobs", "#/about", *(f"#/job/{job['id']}" for job in judged.values()))):
        browser.size(PHONE, 740)
        browser.open(address)
        browser.wait(".badge, .fact-table")
        if judged["two"]["id"] in address:
            browser.wait(".stage canvas")
        width, out = browser.run(
            "const most = document.documentElement.clientWidth;"
            "const out = [...document.querySelectorAll('main *')].filter((one) => !one.closest('.wide')"
            "&& one.getBoundingClientRect().right > most + 1);"
            "return [document.documentElement.scrollWidth, out.map((one) => one.outerHTML.slice(0, 80))]"
        )
        assert out == [], address
        assert width <= PHONE, address
        browser.shoot(f"phone_{i}", PHONE)


def test_every_control_has_a_name(browser: Browser, judged: dict[str, Any]) -> None:
    for address in ("#/", "#/jobs", f"#/job/{judged['two']['id']}"):
        browser.open(address)
        browser.wait(".badge")
        tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        controls = {"button", "link", "textbox", "searchbox", "combobox", "checkbox", "slider", "img", "Video"}
        named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
        assert [role for role, name in named if role in controls and not name.strip()] == []
        roles = {role for role, _ in named}
        assert {"banner", "navigation", "main", "contentinfo", "heading"} <= roles


def test_the_page_keeps_to_its_policy() -> None:
    """No outside resource, no inline script or style, and no way for a name to become markup."""
    files = sorted(PAGE.iterdir())
    assert len(files) > 10
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path
        assert not re.search(r"\bstyle\s*[=:]\s*[\"'`]|<script>|<style>\n|\son\w+=\"", text), path
        outside = set(re.findall(r"https?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, path
