"""The API of a server that really runs: what it does with good and bad requests."""

import hashlib
import io
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from dfpipe.demo import write_clip
from dfpipe.types import Image

VERDICTS = {"FAKE", "REAL", "UNCERTAIN"}
BOUNDARY = "cut here"
SLACK_S = 15  # by which a busy machine may be late; nothing here waits less than 30 s for what never comes


def still(seed: int) -> bytes:
    """A small picture without a face; each seed gives other bytes."""
    buffer = io.BytesIO()
    PillowImage.fromarray(np.full((64, 64, 3), seed % 256, np.uint8)).save(buffer, "PNG", comment=seed)
    return buffer.getvalue() + seed.to_bytes(8, "big")


def head(length: int | None = None) -> bytes:
    """The beginning of an upload as it goes over the wire."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{size}\r\n"
        f'Content-Type: multipart/form-data; boundary="{BOUNDARY}"\r\n\r\n'
    ).encode()


PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'.encode()


def connect(server: Any) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=30)


# ---- the main job ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clip_gets_a_verdict_a_report_and_an_overlay(served: Any, clip: Path) -> None:
    job = served.upload(clip.name, clip.read_bytes(), overlay="true")
    assert job["state"] in ("queued", "running")
    assert len(job["id"]) >= 32
    seen = []

    def over() -> bool:
        seen.append(served.job(job["id"]))
        return seen[-1]["state"] == "done"

    served.until(over)
    job = seen[-1]
    assert {now["stage"] for now in seen} >= {"reading", "writing"}
    shares = [now["progress"] for now in seen if now["progress"] is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert job["verdict"] in VERDICTS
    assert 0 <= job["p_fake"] <= 1
    assert job["name"] == clip.name
    assert job["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert job["created"] <= job["started"] <= job["ended"] < job["expires"]
    links = job["links"]
    page = served.client.get(links["report"])
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "ünï.mp4" in page.text
    assert str(served.data) not in page.text
    figures = served.client.get(links["report_json"]).json()
    assert figures["verdict"] == job["verdict"]
    assert figures["sha256"] == job["sha256"]
    assert figures["path"] == clip.name
    assert served.client.get(links["report"], headers={"Accept": "application/json"}).json() == figures
    drawn = served.client.get(links["overlay"])
    assert drawn.headers["content-type"] == "video/mp4"
    assert drawn.content[4:8] == b"ftyp"
    assert served.client.get(f"{links['self']}/{figures['overlay']['file']}").content == drawn.content


def test_the_same_bytes_are_not_judged_twice(served: Any, clip: Path) -> None:
    first = served.ended(served.upload("one.mp4", clip.read_bytes())["id"])
    second = served.ended(served.upload("two.mp4", clip.read_bytes())["id"])
    assert (first["verdict"], first["p_fake"], first["reason"]) == (
        second["verdict"],
        second["p_fake"],
        second["reason"],
    )
    assert second["reused"]
    assert served.client.delete(first["links"]["self"]).status_code == 204
    assert served.client.get(second["links"]["report"]).status_code == 200  # which its own deletion would remove only


def test_the_upload_comes_back_whole_or_in_part(served: Any, clip: Path) -> None:
    content = clip.read_bytes()
    media = served.ended(served.upload("a.mp4", content)["id"])["links"]["media"]
    whole = served.client.get(media)
    assert (whole.content, whole.headers["content-type"]) == (content, "video/mp4")
    part = served.client.get(media, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])


def test_a_clip_without_a_face_gets_no_number(served: Any, faceless_clip: Path) -> None:
    job = served.ended(served.upload("ramp.mp4", faceless_clip.read_bytes())["id"])
    assert (job["state"], job["verdict"], job["p_fake"]) == ("done", "NO_FACE", None)
    assert job["links"]["overlay"] is None
    assert served.client.get(f"{job['links']['self']}/overlay").status_code == 404


def test_several_files_at_once_and_their_list(served: Any, portrait: Image) -> None:
    buffer = io.BytesIO()
    PillowImage.fromarray(portrait).save(buffer, "JPEG")
    files = [("files", ("portrait 100%.jpg", buffer.getvalue())), ("files", ("grey.png", still(1)))]
    answer = served.client.post("/v1/jobs", files=files)
    assert answer.status_code == 202
    ids = [job["id"] for job in answer.json()["jobs"]]
    face, grey = (served.ended(one) for one in ids)
    assert face["verdict"] in VERDICTS
    assert grey["verdict"] == "NO_FACE"

    def names(query: str) -> list[str]:
        return [job["name"] for job in served.client.get(f"/v1/jobs?{query}").json()["jobs"]]

    assert names("limit=2") == ["grey.png", "portrait 100%.jpg"]
    assert names("limit=1&offset=1") == ["portrait 100%.jpg"]
    assert names("q=100%25") == ["portrait 100%.jpg"]
    assert "portrait 100%.jpg" not in names("verdict=NO_FACE")
    assert names("state=failed") == []
    assert names(f"q={face['sha256'][:12]}") == ["portrait 100%.jpg"]


# ---- bad input -------------------------------------------------------------------------------------------------------

SCRIPT = b"ffconcat version 1.0\nfile /etc/passwd\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty"),
        ("script.mp4", SCRIPT, "first bytes"),
        ("page.html", b"<script>alert(1)</script>", "first bytes"),
        ("broken.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 40, ""),
        ("cut.jpg", b"\xff\xd8\xff\xe0" + bytes(2000), ""),
    ],
)
def test_a_file_that_cannot_be_read_says_why(served: Any, name: str, content: bytes, reason: str) -> None:
    job = served.ended(served.upload(name, content)["id"])
    assert (job["state"], job["verdict"], job["p_fake"]) == ("done", "ERROR", None)
    assert job["reason"]
    assert reason in job["reason"]
    assert served.client.get(job["links"]["report"]).status_code == 200
    media = served.client.get(job["links"]["media"])
    assert media.content == content
    if not media.headers["content-type"].startswith(("image/", "video/")):
        assert media.headers["content-type"] == "application/octet-stream"
        assert media.headers["content-disposition"].startswith("attachment")


def test_a_hostile_name_is_only_ever_text(served: Any) -> None:
    name = '../../../etc/<img src=x onerror=alert(1)>"\r\n\x1b[2J.png'
    job = served.ended(served.upload(name, still(2))["id"])
    assert job["name"].startswith("<img src=x onerror=alert(1)>")
    assert not set(job["name"]) & set("\r\n\x1b")
    report = served.client.get(job["links"]["report"]).text
    assert "<img src=x" not in report
    assert "&lt;img src=x" in report
    assert {path.name for path in (served.data / "uploads").iterdir()} == {
        job["id"] for job in served.client.get("/v1/jobs?limit=200").json()["jobs"]
    }


def test_what_is_too_big_is_refused_and_gone(served: Any) -> None:
    before = set((served.data / "uploads").iterdir())

    def endless() -> Iterator[bytes]:
        yield PART
        for _ in range(served.max_mb * 16 + 32):
            yield bytes(65_536)

    headers = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}
    chunked = served.client.post("/v1/jobs", content=endless(), headers=headers)
    assert chunked.status_code == 413
    assert chunked.json()["error"]["code"] == "too_big"
    with connect(served) as wire:  # refused by its length alone
        wire.sendall(head(10**12))
        assert wire.recv(12) == b"HTTP/1.1 413"
    assert served.client.post("/v1/jobs", files=[("files", ("a", b"a"))] * (served.queue + 1)).status_code == 413
    assert set((served.data / "uploads").iterdir()) == before


def test_an_upload_that_breaks_off_leaves_nothing(served: Any) -> None:
    before = set((served.data / "uploads").iterdir())
    with connect(served) as wire:
        wire.sendall(head(1_000_000) + PART + bytes(100_000))
        served.until(lambda: served.leftovers())
    served.until(lambda: not served.leftovers())
    assert set((served.data / "uploads").iterdir()) == before
    served.until(lambda: "dfpipe_uploads_coming 0" in served.client.get("/metrics").text)


def test_an_upload_that_stalls_is_ended(served: Any) -> None:
    begun = time.monotonic()
    with connect(served) as wire:
        wire.sendall(head(1_000_000) + PART + bytes(1000))
        assert wire.recv(12) == b"HTTP/1.1 408"
    assert served.patience <= time.monotonic() - begun < served.patience + SLACK_S
    assert not served.leftovers()


def test_an_upload_that_trickles_is_ended(served: Any) -> None:
    with connect(served) as wire:
        wire.sendall(head(1_000_000) + PART)
        wire.settimeout(0.2)
        for _ in range(100):
            try:
                wire.sendall(b"x")
                answer = wire.recv(12)
                break
            except TimeoutError:
                continue
        assert answer == b"HTTP/1.1 408"
    assert not served.leftovers()


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HTTP/1.1\r\n", head(10**12)])  # the last one is answered at once
def test_a_connection_on_which_drips_come_is_ended(served: Any, begin: bytes) -> None:
    started = time.monotonic()
    with connect(served) as wire:
        wire.sendall(begin)
        wire.settimeout(0.2)
        with pytest.raises(ConnectionError):
            while time.monotonic() < started + 30:
                try:
                    wire.sendall(b"x")
                    if not wire.recv(4096):
                        raise ConnectionError
                except TimeoutError:
                    continue
    assert time.monotonic() - started < served.patience + SLACK_S


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (415, {"content": b"x", "headers": {"Content-Type": "application/json"}}),
        (415, {"content": b"x"}),
        (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}),
        (400, {"content": PART, "headers": {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}}),
        (400, {"content": PART, "headers": {"Content-Type": f"multipart/form-data; boundary={'b' * 1000}"}}),
        (422, {"files": {"other": ("a.mp4", b"x")}}),
        (422, {"files": {"files": ("a.mp4", b"x")}, "data": {"overlay": "perhaps"}}),
        (413, {"files": {"files": ("a.mp4", b"x")}, "data": {"overlay": "x" * 100_000}}),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(served: Any, status: int, asked: dict[str, Any]) -> None:
    answer = served.client.post("/v1/jobs", **asked)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert not served.leftovers()


@pytest.mark.parametrize(
    ("status", "method", "path"),
    [
        (404, "GET", "/v1/jobs/nobody"),
        (404, "DELETE", "/v1/jobs/nobody"),
        (404, "GET", "/v1/jobs/..%2f..%2fetc%2fpasswd"),
        (404, "GET", "/static/..%2fapp.py"),
        (404, "GET", "/static/%2e%2e/app.py"),
        (404, "GET", "/nowhere"),
        (405, "PUT", "/v1/jobs"),
        (422, "GET", "/v1/jobs?state=lost"),
        (422, "GET", "/v1/jobs?limit=0"),
        (422, "GET", "/v1/jobs?offset=99999999999999999999"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(server: Any, status: int, method: str, path: str) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@pytest.mark.slow
def test_a_report_that_cannot_be_written_fails_its_job_only(served: Any) -> None:
    results, away = served.data / "results", served.data / "away"
    results.rename(away)
    results.write_bytes(b"no folder")
    try:
        job = served.ended(served.upload("a.png", still(6))["id"])
    finally:
        results.unlink()
        away.rename(results)
    assert (job["state"], job["verdict"]) == ("failed", None)
    assert "could not finish" in job["error"]
    assert str(served.data) not in job["error"]
    assert served.ended(served.upload("b.png", still(7))["id"])["state"] == "done"


# ---- deleting --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_are_deleted_in_every_state(served: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "slow.mp4", itertools.repeat(np.zeros((1080, 1920, 3), np.uint8), 64))  # a search in vain
    slow = (tmp_path / "slow.mp4").read_bytes()
    running, queued = (served.upload(name, slow + name.encode()) for name in ("first.mp4", "second.mp4"))
    assert served.client.get(f"{queued['links']['self']}/report").status_code == 409
    served.running(running["id"])
    readers = served.readers()
    assert readers
    for job in (queued, running):
        assert served.client.delete(job["links"]["self"]).status_code == 204
        assert served.client.get(job["links"]["self"]).status_code == 404
        assert not (served.data / "uploads" / job["id"]).exists()
    served.until(lambda: not any(map(served.alive, readers)))  # what was being read is not read to its end
    after = served.ended(served.upload("after.png", still(3))["id"])
    assert after["verdict"] == "NO_FACE"  # the worker goes on
    assert served.client.delete(after["links"]["self"]).status_code == 204
    assert not list((served.data / "results").glob(f"{after['id']}*"))
    assert not list((served.data / "results").glob(f"{running['id']}*"))


# ---- safety ----------------------------------------------------------------------------------------------------------


def test_other_sites_may_change_nothing(server: Any) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}):
        assert server.client.post("/v1/jobs", files={"files": b"x"}, headers=headers).status_code == 403
        assert server.client.delete("/v1/jobs/nobody", headers=headers).status_code == 403
    assert server.client.delete("/v1/jobs/nobody", headers={"Origin": server.url}).status_code == 404


def test_other_names_are_not_answered(server: Any) -> None:
    for name in ("elsewhere.example", "127.0.0.1.elsewhere.example", ""):
        assert server.client.get("/v1/jobs", headers={"Host": name}).status_code == 400
    assert server.client.get("/v1/jobs", headers={"Host": "LOCALHOST:1234"}).status_code == 200


def test_every_answer_tells_browsers_to_be_careful(server: Any) -> None:
    for path in ("/", "/v1/jobs", "/v1/jobs/nobody", "/healthz", "/nowhere"):
        headers = server.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


def test_bodies_where_none_is_needed_are_refused(server: Any) -> None:
    assert server.client.request("GET", "/v1/jobs", content=bytes(100_000)).status_code == 413


# ---- what the service says of itself ---------------------------------------------------------------------------------


def test_the_model_and_the_limits_are_told(server: Any) -> None:
    model = server.client.get("/v1/model").json()
    assert len(model["sha256"]) == 64
    assert model["measured"]
    assert any("evidence, not proof" in text for text in model["limits"])
    limits = server.client.get("/v1/limits").json()
    assert (limits["max_bytes"], limits["queue"]) == (server.max_mb * 10**6, server.queue)


def test_metrics_count(served: Any) -> None:
    def figure(name: str) -> float:
        text = served.client.get("/metrics").text
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[-1])

    before = figure('dfpipe_verdicts_total{verdict="NO_FACE"}'), figure("dfpipe_uploaded_bytes_total")
    content = still(4)
    served.ended(served.upload("a.png", content)["id"])
    assert figure('dfpipe_verdicts_total{verdict="NO_FACE"}') == before[0] + 1
    assert figure("dfpipe_uploaded_bytes_total") == before[1] + len(content)
    assert figure("dfpipe_judging_seconds_total") > 0
    assert figure("dfpipe_ready") == 1


def test_no_more_comes_than_can_wait(served: Any) -> None:
    with ExitStack() as stack:
        for _ in range(served.queue):
            stack.enter_context(connect(served)).sendall(head(1_000_000) + PART + bytes(1000))
        served.until(lambda: len(served.leftovers()) == served.queue)
        answer = served.client.post("/v1/jobs", files={"files": ("a.png", still(5))})
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
    served.until(lambda: not served.leftovers())
    served.upload("a.png", still(5))


# ---- many at once ----------------------------------------------------------------------------------------------------


def fifty_uploads(served: Any, first: int) -> tuple[list[httpx.Response], float]:
    """Answers to fifty uploads at once, and the seconds of the slowest sign of life meanwhile."""
    slowest, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal slowest
        with httpx.Client(base_url=served.url, timeout=30) as client:
            while not over.is_set():
                begun = time.monotonic()
                assert client.get("/healthz").status_code == 200
                slowest = max(slowest, time.monotonic() - begun)
                time.sleep(0.02)

    def upload(number: int) -> httpx.Response:
        content = still(first + number) + bytes(1_000_000)
        return httpx.post(f"{served.url}/v1/jobs", files={"files": ("a.png", content)}, timeout=60)

    with ThreadPoolExecutor(51) as pool:
        watching = pool.submit(watch)
        answers = list(pool.map(upload, range(50)))
        over.set()
        watching.result()
    return answers, slowest


def test_fifty_uploads_at_once(served: Any) -> None:
    before = served.memory()
    for first in (100, 200, 300):  # a service that waits for its uploads does so every time, a busy machine does not
        answers, slowest = fifty_uploads(served, first)
        check_answers(served, answers)
        if slowest < 1:
            break
    assert slowest < 1
    assert served.memory() - before < 40_000_000  # 50 MB and more were sent
    assert not served.leftovers()


def check_answers(served: Any, answers: list[httpx.Response]) -> None:
    """As many as may wait are taken and judged, and the others are asked to come again."""
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {202, 429}
    assert statuses.count(202) >= served.queue
    for answer in answers:
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["Retry-After"]) <= 300
        else:
            assert served.ended(answer.json()["jobs"][0]["id"])["verdict"] == "NO_FACE"
