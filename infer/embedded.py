"""The model that ships inside the package: what answers before anybody has trained one."""

from importlib import resources
from pathlib import Path

FILE = Path("models", "default.safetensors")  # inside dfpipe.infer; how it was made is in docs/default_model.md


def embedded_model() -> Path | None:
    """Where the embedded model file lies; None in an install without it."""
    path = Path(str(resources.files("dfpipe.infer"))) / FILE
    return path if path.is_file() else None
