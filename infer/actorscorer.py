"""Scores where the faces were found: in the actors of a Ray cluster, each of which holds the network once."""

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dfpipe.errors import UsageError
from dfpipe.files import scratch_folder
from dfpipe.infer.looking import Looked
from dfpipe.sandbox import give_back_memory
from dfpipe.threads import one_thread
from dfpipe.train.openmodel import Model, open_model

if TYPE_CHECKING:
    from dfpipe.infer.scorer import Scorer


@dataclass
class ActorScorer:
    """Scores what a child has found. It travels as a pickle, with the whole model file: nodes need not see that file.

    Args:
        name: Of the model file.
        content: Of that file.
        device: See `pick_device`; a GPU only where actors reserve a share of one.
        at_once: Crops in a batch, at most.
    """

    name: str
    content: bytes = field(repr=False)
    device: str
    at_once: int
    _scorer: "Scorer | None" = field(default=None, repr=False)

    def prepare(self) -> None:
        """Loads the network, unless it is there.

        Raises:
            ModelFileError: Its weights are refused.
            UsageError: The node has no such device.
        """
        if self._scorer is not None:
            return
        from dfpipe.infer.scorer import Scorer

        with scratch_folder() as folder:
            path = folder / self.name
            path.write_bytes(self.content)
            model = open_model(path, self.device, shipped=True)  # its header was checked where the run was started
            self._scorer = Scorer(model.network, model.card, self.at_once)
        self.content = b""

    def __call__(self, looked: Looked) -> Looked:
        """What was found, with a score for each crop.

        Raises:
            ResourceError: Out of memory with a single crop.
        """
        self.prepare()
        if self._scorer is None or not looked.found.crops:
            return looked
        start = time.perf_counter()
        with one_thread():  # as where the network is on the driver: the scores shall be the same
            scores = self._scorer.score(looked.found.crops)
        give_back_memory()
        return replace(looked, scores=scores, seconds=looked.seconds + time.perf_counter() - start)


def actor_scorer(model: Model, gpus: float, at_once: int) -> ActorScorer:
    """For the actors of a run.

    Args:
        model: As the driver opened it.
        gpus: Share of a GPU that each actor reserves.
        at_once: Crops in a batch, at most.

    Raises:
        UsageError: A GPU was asked for, but none is reserved.
        ModelFileError: The file has changed since it was opened.
    """
    if not gpus and model.device not in ("auto", "cpu"):
        raise UsageError(
            f"--device {model.device} with --engine ray: networks score in the workers, and a GPU is theirs only with "
            "--gpus-per-worker SHARE, as 0.25 for four workers on each"
        )
    return ActorScorer(model.path.name, model.content(), model.device if gpus else "cpu", at_once)
