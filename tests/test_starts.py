"""What is loaded when: seconds of every command and of every process that reads media. Told by modules, never by time."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from dfpipe.cli import main
from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.infer.inputs import Upload
from dfpipe.infer.looking import LookJob, look_task
from dfpipe.preprocess.facefinder import setup_of
from dfpipe.workers import run_all

HEAVY = {
    "torch",
    "cv2",
    "numpy",
    "av",
    "decord",
    "pyarrow",
    "scipy",
    "sklearn",
    "PIL",
    "fastapi",
    "uvicorn",
    "pydantic",
}
# Of the parent's work, or of nobody's in a child: torch's compiler, torchvision, which brings it, and what both bring.
NOT_IN_A_CHILD = {"torch._dynamo", "torchvision", "timm", "facenet_pytorch", "sympy", "scipy", "sklearn", "pandas"} | {
    *("matplotlib", "jinja2", "pyarrow", "fastapi", "huggingface_hub"),
}


def loaded_by(code: str, folder: Path | None = None) -> set[str]:
    """Names of modules in a fresh interpreter, in some folder, after some code that ends by itself or with exit code 0."""
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())


def commands(group: click.Group, *above: str) -> list[list[str]]:
    """All commands below a group, with their groups."""
    found: list[list[str]] = []
    for name, command in group.commands.items():
        found.append([*above, name])
        if isinstance(command, click.Group):
            found += commands(command, *above, name)
    return found


def test_no_help_waits_for_a_library() -> None:
    pages = commands(main)
    assert ["infer"] in pages
    assert ["model", "show"] in pages
    code = f"from dfpipe.cli import main; [main([*c, '--help'], standalone_mode=False) for c in {[[], *pages]}]"
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("words", [["--nonsense"], ["infer", "--nonsense"], ["extract", "--workers", "many"], ["infr"]])
def test_no_wrong_word_waits_for_a_library(words: list[str]) -> None:
    code = "import sys; from dfpipe.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
    assert run.returncode == 2
    assert not set(run.stdout.split()) & HEAVY


def modules_after(job: LookJob) -> set[str]:
    """What a child has loaded when it has dealt with an input."""
    assert look_task(job).found.crops
    return set(sys.modules)


@pytest.mark.parametrize("reader", ["auto", "decord", "pyav"])
def test_a_child_loads_only_what_reads_media_and_finds_faces(clip: Path, reader: str) -> None:
    setup = setup_of(FacesConfig(frames=2, reader=reader), LimitsConfig())
    ((_, loaded),) = run_all(modules_after, [LookJob(Upload(clip))], setup=setup, workers=1)
    assert isinstance(loaded, set), loaded
    assert "torch" in loaded
    assert not loaded & NOT_IN_A_CHILD


def test_torch_is_not_loaded_before_the_children_start() -> None:
    light = loaded_by("import dfpipe.infer.judging, dfpipe.preprocess.extract")
    assert not light & {"torch", "torchvision", "timm", "scipy", "sklearn", "matplotlib", "jinja2", "fastapi"}


def test_what_was_judged_before_is_told_without_the_network(clip: Path, tmp_path: Path) -> None:
    code = f"from dfpipe.cli import main; main(['infer', {str(clip)!r}, '--workers', '1'])"
    first, again = loaded_by(code, tmp_path), loaded_by(code, tmp_path)
    assert "timm" in first
    assert not again & {"torch", "timm"}
