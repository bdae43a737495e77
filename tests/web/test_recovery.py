"""Processes die, and every job still ends."""

import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]
ENDED = {"done", "failed"}


def kill_the_worker(server: Any) -> None:
    worker = server.worker()
    os.kill(worker, signal.SIGKILL)
    server.until(lambda: not server.alive(worker))


@pytest.mark.slow
def test_a_job_that_kills_its_worker_twice_is_given_up_and_the_next_one_judged(served: Any, clip: Path) -> None:
    job, after = (served.upload(name, clip.read_bytes() + name.encode()) for name in ("twice.mp4", "after.mp4"))
    for _ in range(2):
        served.until(lambda: served.job(job["id"])["state"] == "running")
        kill_the_worker(served)
        served.until(lambda: served.job(job["id"])["state"] != "running")
    job = served.ended(job["id"])
    assert (job["state"], job["verdict"]) == ("failed", None)
    assert "SIGKILL" in job["error"]
    report = served.client.get(job["links"]["report"])
    assert report.status_code == 409
    assert "SIGKILL" in report.json()["error"]["message"]
    assert served.ended(after["id"])["verdict"] in {"FAKE", "REAL", "UNCERTAIN"}


@pytest.mark.slow
def test_a_killed_server_leaves_no_process_and_no_job(start_server: Start, tmp_path: Path, clip: Path) -> None:
    first = start_server(tmp_path / "data").ready()
    jobs = [first.upload(f"{i}.mp4", clip.read_bytes() + bytes([i])) for i in range(3)]
    lost = first.upload("lost.mp4", clip.read_bytes() + b"lost")
    first.running(jobs[0]["id"])
    with socket.create_connection(("127.0.0.1", int(first.url.rsplit(":", 1)[1]))) as wire:
        wire.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + bytes(5000)
        )
        first.until(first.leftovers)
        worker = first.worker()
        first.stop(signal.SIGKILL)
    first.until(lambda: not first.alive(worker))
    uploads, results = tmp_path / "data" / "uploads", tmp_path / "data" / "results"
    (uploads / lost["id"]).unlink()
    (uploads / "of-no-job").write_bytes(b"x")
    (results / "of-no-job").mkdir()

    second = start_server(tmp_path / "data").ready()
    ended = [second.ended(job["id"]) for job in jobs]
    assert [job["state"] for job in ended] == ["done"] * 3
    lost = second.ended(lost["id"])
    assert lost["state"] == "failed"
    assert "not there any more" in lost["error"]
    assert {path.name for path in uploads.iterdir()} == {job["id"] for job in jobs}
    assert {path.name for path in results.iterdir()} == {job["id"] for job in jobs}

    # A clean end: what was being judged goes back, as if it had not been begun.
    late = [second.upload(f"late{i}.mp4", clip.read_bytes() + b"late" + bytes([i])) for i in range(3)]
    second.running(late[0]["id"])
    worker = second.worker()
    assert second.stop() == ""
    assert second.process.returncode == -signal.SIGTERM
    assert not second.alive(worker)
    assert not list((tmp_path / "data" / "scratch").glob("dfpipe-*"))
    with sqlite3.connect(tmp_path / "data" / "jobs.sqlite") as db:
        found = [db.execute("SELECT state, tries FROM jobs WHERE id = ?", (job["id"],)).fetchone() for job in late]
    assert found[-1] == ("queued", 0)
    assert set(found) <= {("queued", 0), ("done", 1)}, "the first may have been done at that moment"


@pytest.mark.parametrize(
    ("code", "told", "flags"),
    [
        (2, "--insecure", ["--host", "0.0.0.0"]),
        (2, "cannot listen", ["--host", "192.0.2.1", "--insecure"]),
        (2, "key file", ["--key-file", "nowhere"]),
        (4, "model", ["--model", "nowhere.safetensors"]),
    ],
)
def test_a_service_that_cannot_be_says_why(
    start_server: Start, tmp_path: Path, code: int, told: str, flags: list[str]
) -> None:
    server = start_server(tmp_path / "data", *flags)
    _, complaint = server.process.communicate(timeout=60)
    assert server.process.returncode == code, complaint
    assert told in complaint
    assert "Traceback" not in complaint


def test_a_service_with_a_key(start_server: Start, tmp_path: Path, server: Any) -> None:
    key = "correct horse battery"
    one = start_server(tmp_path / "data", DFPIPE_API_KEY=key)
    for path in ("/healthz", "/", "/static/index.html", "/openapi.json"):
        assert one.client.get(path).status_code == 200
    right = ({"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer {key}"}, {"X-API-Key": key})
    wrong = ({}, {"X-API-Key": ""}, {"X-API-Key": key[:-1]}, {"Authorization": f"Basic {key}"})
    for path in ("/v1/jobs", "/v1/limits", "/metrics"):
        assert [one.client.get(path, headers=headers).status_code for headers in right] == [200] * 3
        assert [one.client.get(path, headers=headers).status_code for headers in wrong] == [401] * 4
    assert one.client.post("/v1/jobs", files={"files": b"x"}).status_code == 401
    described = one.client.get("/openapi.json").json()
    assert described["paths"]["/v1/jobs"]["get"]["security"] == [{"key": []}]

    taken = start_server(tmp_path / "other", "--port", one.url.rsplit(":", 1)[1])
    assert taken.process.wait(60) == 2
    same = start_server(tmp_path / "data")
    _, complaint = same.process.communicate(timeout=60)
    assert "another service" in complaint
    assert "choose another --out" in complaint
    one.stop(signal.SIGINT)
    assert one.process.returncode == 130
