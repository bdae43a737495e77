"""Does an extraction that is killed again and again end like one that is left alone?

    python benchmarks/kill_and_resume.py FOLDER [--kills 10] [--seed 0] [--workers 2]

Extracts FOLDER once undisturbed, then into another folder with `kill -9` at random moments, then to the end, and compares
manifest and crops byte for byte. Prints when it killed, and what was found afterwards.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def files(out: Path) -> dict[str, bytes]:
    """Manifest and crops."""
    return {str(p.relative_to(out)): p.read_bytes() for p in [out / "manifest.parquet", *out.rglob("crops/**/*.jpg")]}


def main() -> None:
    """Runs, kills, compares; exit 1 if anything differs or is left over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        command = [
            sys.executable,
            "-m",
            "dfpipe",
            "extract",
            "--videos",
            str(args.folder),
            "--workers",
            str(args.workers),
        ]
        began = time.monotonic()
        subprocess.run([*command, "-q", "--out", str(whole)], check=True, stdout=subprocess.DEVNULL)
        undisturbed = time.monotonic() - began
        print(f"undisturbed: {undisturbed:.0f} s, {len(files(whole)) - 1} crops", flush=True)
        for number in range(1, args.kills + 1):
            run = subprocess.Popen([*command, "-q", "--out", str(killed)], stdout=subprocess.DEVNULL)
            wait = rng.uniform(0, undisturbed / 4)  # early enough that work is left for the next kill
            try:
                run.wait(timeout=wait)
                print(f"run {number} ended by itself within {wait:.1f} s", flush=True)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                run.wait()
                done = len(list(killed.glob("crops/*/*")))
                print(f"kill {number} after {wait:.1f} s: {done} inputs have crops", flush=True)
        subprocess.run([*command, "-q", "--out", str(killed)], check=True, stdout=subprocess.DEVNULL)
        time.sleep(2)
        left = [name for name in os.listdir(killed) if name.startswith(".tmp-")]
        orphans = subprocess.run(["pgrep", "-f", str(killed)], capture_output=True, text=True).stdout.split()
        same = files(whole) == files(killed)
        print(f"byte for byte the same: {same}; left over: {left}; orphan processes: {orphans}")
        sys.exit(0 if same and not left and not orphans else 1)


if __name__ == "__main__":
    main()
