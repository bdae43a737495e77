"""dfpipe: deepfake detection from clips and stills to verdicts that a person can check.

The rooms, in the order of the data: `dfpipe.preprocess` (media to face crops), `dfpipe.train` (crops to a model file),
`dfpipe.infer` (model file and media to verdicts). This trunk holds the words they share and the command line above them.
Nothing heavy is imported here.

    from dfpipe import Detector

    print(Detector.load().judge("clip.mp4").verdict)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfpipe.infer.detector import Detector as Detector

__all__ = ["Detector", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads the detector when it is asked for: it brings torch with it, for which `dfpipe --help` should not wait."""
    if name != "Detector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dfpipe.infer.detector import Detector

    return Detector
