"""What `dfpipe serve` was told, checked, and where things lie under its data folder."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from dfpipe.config import Config
from dfpipe.errors import UsageError

MIN_KEY_CHARS = 16  # shorter keys can be guessed; 16 random letters are some 90 bits


@dataclass(frozen=True)
class Settings:
    """All that shapes the service."""

    data: Path  # jobs, uploads and results
    host: str = "127.0.0.1"
    port: int = 8000
    model: Path | None = None  # None = what `dfpipe infer` takes
    device: str = "auto"
    frames: int | None = None  # looked at in a clip; None = as the model file says
    config: Config = field(default_factory=Config)
    queue: int = 8  # jobs that may wait
    keep_days: float = 30.0  # for which a finished job is kept
    max_bytes: int = 200_000_000  # of one file
    min_free_bytes: int = 1_000_000_000  # of disk that uploads leave free
    chunk_seconds: float = 20.0  # for which an upload may pause
    min_rate: int = 10_000  # bytes/s, over the whole of an upload after its first `chunk_seconds`
    key: str | None = None  # None = everybody who reaches the port may use it
    hosts: tuple[str, ...] = ()  # further names by which it is reached, as behind a proxy
    insecure: bool = False  # reachable from other machines without a key

    @property
    def database(self) -> Path:
        """The jobs."""
        return self.data / "jobs.sqlite"

    @property
    def uploads(self) -> Path:
        """One file for each job, named by its id."""
        return self.data / "uploads"

    @property
    def results(self) -> Path:
        """One folder for each finished job, named by its id."""
        return self.data / "results"

    @property
    def scratch(self) -> Path:
        """What the worker needs for a moment; emptied at every start."""
        return self.data / "scratch"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def check(settings: Settings) -> None:
    """Refuses what would be open to everybody by mistake.

    Raises:
        UsageError: Reachable from outside without a key, or a key that can be guessed.
    """
    if settings.key is not None and len(settings.key) < MIN_KEY_CHARS:
        raise UsageError(
            f"the API key is shorter than {MIN_KEY_CHARS} characters and can be guessed: take a longer one"
        )
    if not settings.loopback and settings.key is None and not settings.insecure:
        raise UsageError(
            f"{settings.host} can be reached from other machines and there is no API key: set DFPIPE_API_KEY or --key-file, "
            "or say --insecure if everybody may use it"
        )


def is_loopback(host: str) -> bool:
    """Whether a host to bind to is this machine only. "" and 0.0.0.0 are every interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
