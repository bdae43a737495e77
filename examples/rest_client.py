"""Sends files to a running `dfpipe serve` and prints the verdicts; saves each report.

    dfpipe serve &
    pip install httpx
    python examples/rest_client.py http://127.0.0.1:8000 clip.mp4 other.jpg

With a key in the environment variable DFPIPE_API_KEY it is sent along. All routes, and their answers: docs/serving.md.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

LOOK_S = 0.5  # between two questions whether a job is done
PATIENCE_S = 5.0  # before a file is sent again to a service whose queue is full


def main(url: str, *files: str) -> None:
    """Sends the files one after the other, and prints what became of each."""
    key = os.environ.get("DFPIPE_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        for job in [send(client, Path(file)) for file in files]:
            ended = wait(client, job["links"]["self"])
            score = "-" if ended["p_fake"] is None else f"{ended['p_fake']:.2f}"
            print(
                f"{ended['verdict'] or ended['state']:<9} {score:>5}  {ended['name']}  {ended['error'] or ended['reason']}"
            )
            if ended["state"] == "done":
                report = client.get(ended["links"]["report"]).raise_for_status()
                Path(f"{ended['id']}.html").write_bytes(report.content)


def send(client: httpx.Client, file: Path) -> dict[str, Any]:
    """Uploads a file, and waits while the queue is full (429)."""
    while True:
        with file.open("rb") as content:
            answer = client.post("/v1/jobs", files={"files": (file.name, content)})
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return dict(answer.raise_for_status().json()["jobs"][0])
        time.sleep(PATIENCE_S)


def wait(client: httpx.Client, job: str) -> dict[str, Any]:
    """Asks until the job has ended."""
    while (state := client.get(job).raise_for_status().json())["state"] not in ("done", "failed"):
        time.sleep(LOOK_S)
    return dict(state)


if __name__ == "__main__":
    main(*sys.argv[1:])
