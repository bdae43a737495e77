"""A model file that is open: what it says of itself and its hash are known, its network is there when it is asked for.

Nothing heavy is imported before that, so that `dfpipe infer` starts the processes that read media first, and loads torch and
the network while these load what they need.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dfpipe.errors import ModelFileError
from dfpipe.train.card import ModelCard, card_of
from dfpipe.train.tensorfile import TensorFile, open_tensors

if TYPE_CHECKING:
    from dfpipe.train.modelfile import Network


@dataclass(frozen=True)
class Model:
    """A model that can score, with the hash of its file."""

    card: ModelCard
    path: Path
    sha256: str
    load: Callable[[], "Network"] = field(repr=False)  # gives the same network every time
    device: str = "cpu"  # as it was asked for, see `pick_device`

    @property
    def network(self) -> "Network":
        """The network, on its device; read and checked when it is first asked for.

        Raises:
            ModelFileError: Its weights are damaged, or the file has changed since it was opened.
            UsageError: There is no such device.
        """
        return self.load()

    def content(self) -> bytes:
        """The whole file.

        Raises:
            ModelFileError: It cannot be read, or is not what was opened.
        """
        try:
            whole = self.path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be read any more ({error.strerror})") from error
        if hashlib.sha256(whole).hexdigest() != self.sha256:
            raise ModelFileError(f"{self.path} changed since it was opened: run the same command again")
        return whole


def open_model(path: Path, device: str = "cpu", shipped: bool = False) -> Model:
    """Reads and checks all but the weights of a model file.

    Args:
        path: The file.
        device: Where the network will go, see `pick_device`.
        shipped: See `open_tensors`.

    Raises:
        ModelFileError: Missing, not one of ours, or of a newer version.
    """
    file = open_tensors(path, shipped)
    card = card_of(file)
    digest = hashlib.sha256(file.read()).hexdigest()
    return Model(card, path, digest, cache(partial(_network, file, card, digest, device)), device)


def _network(file: TensorFile, card: ModelCard, sha256: str, device: str) -> "Network":
    from dfpipe.train.modelfile import load_network

    return load_network(file, card, sha256, device)
