"""Servers that really run, each a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dfpipe.infer.embedded import embedded_model

httpx = pytest.importorskip("httpx", reason="needs the extra dev")

ENDED = ("done", "failed")


class Server:
    """One `dfpipe serve` on a free port."""

    max_mb, queue, patience = 3, 8, 1.5

    def __init__(self, data: Path, *flags: str, **environment: str) -> None:
        self.data = data
        told = {
            "--port": "0",
            "--model": str(embedded_model()),
            "--frames": "6",
            "--min-free-mb": "50",
            "--device": "cpu",
        }
        told |= {"--queue": str(self.queue), "--max-mb": str(self.max_mb), "--patience": str(self.patience)}
        words = [word for name, value in told.items() if name not in flags for word in (name, value)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dfpipe", "serve", "--data", str(data), *words, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.split()[-1].rstrip("/") if line else ""
        self.client = httpx.Client(base_url=self.url or "http://unused", timeout=60)

    def ready(self) -> "Server":
        """Waits for the model."""
        self.until(lambda: self.client.get("/readyz").status_code == 200)
        return self

    def upload(self, name: str, content: bytes, **fields: str) -> dict[str, Any]:
        """One file to one job."""
        answer = self.client.post("/v1/jobs", files={"files": (name, content)}, data=fields)
        assert answer.status_code == 202, answer.text
        (job,) = answer.json()["jobs"]
        return dict(job)

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str) -> dict[str, Any]:
        """Waits for the end of a job."""
        self.until(lambda: self.job(job_id)["state"] in ENDED)
        return self.job(job_id)

    def running(self, job_id: str) -> None:
        """Waits for its beginning."""
        self.until(lambda: self.job(job_id)["state"] != "queued")
        assert self.job(job_id)["state"] == "running"

    def idle(self) -> None:
        """Waits until nothing is left to do."""
        self.until(
            lambda: not any(self.client.get(f"/v1/jobs?state={s}").json()["total"] for s in ("queued", "running"))
        )

    def worker(self) -> int:
        """The process id of the worker."""
        (pid,) = python_children(self.process.pid)
        return pid

    def readers(self) -> list[int]:
        """The process ids of the worker's children, which parse files."""
        return python_children(self.worker())

    def leftovers(self) -> list[str]:
        """Uploads that are not finished."""
        return [path.name for path in (self.data / "uploads").glob(".tmp-*")]

    def memory(self) -> int:
        """Bytes that the server process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @staticmethod
    def until(happened: Callable[[], object], seconds: float = 90) -> None:
        """Waits for something."""
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    @staticmethod
    def alive(pid: int) -> bool:
        """Whether a process is there and no zombie."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def stop(self, sign: int = signal.SIGTERM) -> str:
        """Ends it. Returns what it wrote on stderr."""
        self.client.close()
        self.process.send_signal(sign)
        return self.process.communicate(timeout=90)[1]


def children(parent: int) -> list[int]:
    """Process ids, from Linux's /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def python_children(parent: int) -> list[int]:
    """Those of the children that do our work."""
    return [pid for pid in children(parent) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts servers; what of them still runs in the end is killed."""
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc")
    servers: list[Server] = []

    def start(*words: Any, **environment: str) -> Server:
        servers.append(Server(*words, **environment))
        return servers[-1]

    yield start
    for one in servers:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    one = start_server(tmp_path_factory.mktemp("service") / "data").ready()
    yield one
    assert one.process.poll() is None, "the server ended by itself"
    assert "Traceback" not in one.stop()


@pytest.fixture
def served(server: Server) -> Server:
    """The shared server, with nothing left to do."""
    server.idle()
    return server
