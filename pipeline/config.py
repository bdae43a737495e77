"""Settings: one frozen dataclass per room, overlaid by a YAML file, overlaid by `--set key=value`.

The dataclass defaults are the only defaults; configs/default.yaml repeats them for reading and a test keeps it equal.
An unknown key or a wrong type is an error that names the dotted path.
"""

import dataclasses
import itertools
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dfpipe.errors import ConfigError, did_you_mean, reason_of

C = TypeVar("C")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class FacesConfig:
    """How faces are found and cut. Stored in every model file, so that inference cuts its crops exactly like training."""

    sampling: str = "uniform"  # uniform | every | fps | keyframes | at_least
    frames: int = 32  # per clip for uniform (as the DFDC winner used at inference); with a face for at_least
    every: int = 10  # frames from one to the next, for every
    fps: float = 1.0  # frames per second of the clip, for fps
    max_frames: int = 256  # looked at in one clip at most, whatever the sampling; more are thinned out evenly
    reader: str = "auto"  # auto | decord | pyav
    detector: str = "mtcnn"  # mtcnn | yunet (needs detector_model)
    detect_side: int = 640  # px of the longer side of the picture that the detector sees first
    fine_side: int = 1920  # px, second look at frames in which the first found nothing; 0 = none
    min_face: int = 20  # px in the picture that the detector sees: facenet-pytorch's default
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)  # P-, R-, O-Net: facenet-pytorch's defaults
    min_confidence: float = 0.9  # of a face: in a still; in a clip in two frames, the others then need less
    crop_scale: float = 1.3  # side of the square crop / longer side of the face box: as in FaceForensics++
    crop_size: int = 256  # px
    align: bool = False  # turn each crop so that the five landmarks lie where they do in an upright face
    detector_model: str = ""  # file of a detector that ships none (yunet)
    max_faces: int = 32  # kept per frame, the largest first

    def __post_init__(self) -> None:
        _require(self.frames >= 1, "preprocess.faces.frames must be at least 1")
        _require(self.every >= 1, "preprocess.faces.every must be at least 1")
        _require(self.fps > 0, "preprocess.faces.fps must be above 0")
        _require(self.max_frames >= 1, "preprocess.faces.max_frames must be at least 1")
        _require(self.detect_side >= 64, "preprocess.faces.detect_side must be at least 64 px")
        _require(self.min_face >= 12, "preprocess.faces.min_face must be at least 12 px, the window of P-Net")
        _require(0.3 <= self.crop_scale <= 10, "preprocess.faces.crop_scale must lie between 0.3 and 10")
        _require(16 <= self.crop_size <= 4096, "preprocess.faces.crop_size must lie between 16 and 4096 px")
        _require(self.max_faces >= 1, "preprocess.faces.max_faces must be at least 1")


# Ending of a limit's name -> its unit.
_UNITS = {"_gb": "GB", "_megapixels": "megapixels", "_s": "s", "_ratio": "times", "seconds": "s"}


@dataclass(frozen=True)
class LimitsConfig:
    """What one input may cost before it is given up. All are reported when hit."""

    seconds: float = 30.0  # wall time of one input in its worker; long clips and large files get more, see `allowance`
    seconds_at_most: float = 600.0  # and this at most
    memory_gb: float = 4.0  # address space on top of what the worker has after loading its networks
    file_gb: float = 8.0  # of one file
    image_megapixels: float = 50.0  # of a still
    frame_megapixels: float = 40.0  # of one frame of a clip
    duration_s: float = 7200.0  # of a clip
    scan_frames: int = 60_000  # decoded at most while looking for the wanted frames
    streams: int = 16  # of all kinds, in one file
    animation_frames: int = 1000  # of a GIF that are looked at; what comes after is left out and told
    archive_entries: int = 2_000_000  # ten times the largest set of stills in use; each costs about 1 kB of memory
    archive_ratio: float = 200.0  # unpacked size / packed size of an entry over 10 MB; pictures and clips hardly shrink

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            _require(getattr(self, f.name) > 0, f"preprocess.limits.{f.name} must be above 0")

    def named(self, name: str) -> str:
        """A limit as a reason for a refusal gives it: its value with its unit, and its setting."""
        unit = next((f" {unit}" for ending, unit in _UNITS.items() if name.endswith(ending)), "")
        return f"the limit of {getattr(self, name):.15g}{unit} (preprocess.limits.{name})"

    def allowance(self, size: int = 0, duration_s: float = 0.0, pixels: int = 0, fps: float = 0.0) -> float:
        """Wall time that an input of this kind may take, in s.

        Twice the duration of a clip of 1080p at 30 frames per second, more in proportion for more pixels, and a second for
        each 20 MB that must be read, as from a slow disk. Decoding all of such a clip takes a sixth of its duration on one
        core (measured: 1.6 s for 10 s), so that twelve times the work is allowed for a busy machine.

        Args:
            size: Of the file, in bytes.
            duration_s: Of the clip, in s, as it claims.
            pixels: Of a frame.
            fps: Frames in a second.
        """
        heavier = max(1.0, pixels * fps / (1920 * 1080 * 30))
        return min(max(self.seconds, 2 * duration_s * heavier, size / 20e6), self.seconds_at_most)

    def patient(self, times: float) -> "LimitsConfig":
        """The same limits with so many times as much time, for work that does more than look at a few frames."""
        return dataclasses.replace(self, seconds=times * self.seconds, seconds_at_most=times * self.seconds_at_most)


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings of `dfpipe extract`."""

    faces: FacesConfig = field(default_factory=FacesConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    stills: str = "auto"  # auto | detect | as-is: are still images pictures with faces in them, or face crops already?
    crop_format: str = "jpeg"  # jpeg (4:4:4) | png
    jpeg_quality: int = 95  # 1..100
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)  # train, validation, test where the publisher gives none
    folds: int = 0  # cross-validation folds by group, in the manifest's column fold; 0 = none

    def __post_init__(self) -> None:
        _require(self.stills in ("auto", "detect", "as-is"), "preprocess.stills must be auto, detect or as-is")
        _require(self.crop_format in ("jpeg", "png"), "preprocess.crop_format must be jpeg or png")
        _require(self.folds == 0 or self.folds >= 2, "preprocess.folds must be 0 (none) or at least 2")
        _require(1 <= self.jpeg_quality <= 100, "preprocess.jpeg_quality must lie between 1 and 100")
        _require(
            all(0 <= s <= 1 for s in self.split) and abs(sum(self.split) - 1) < 1e-6,
            "preprocess.split must be three shares that add up to 1",
        )


@dataclass(frozen=True)
class HeadConfig:
    """What makes a logit of a backbone's features. Stored in every model file."""

    hidden: int = 0  # width of a dense ReLU layer before the output; 0 = none
    dropout: float = 0.0  # before the output
    l2: float = 0.0  # factor of the dense layer's squared weights in the loss (a "kernel regularizer")
    outputs: int = 1  # 1 = one logit (sigmoid) | 2 = two classes (softmax); the logit is then their difference
    mirror: bool = False  # score a crop and its mirror image and take the mean logit: twice the work, never in training

    def __post_init__(self) -> None:
        _require(self.hidden >= 0, "train.head.hidden must be 0 (no dense layer) or its width")
        _require(0 <= self.dropout < 1, "train.head.dropout must lie in 0..1, 1 excluded")
        _require(self.l2 >= 0, "train.head.l2 must be at least 0")
        _require(self.outputs in (1, 2), "train.head.outputs must be 1 (sigmoid) or 2 (softmax)")


@dataclass(frozen=True)
class StageConfig:
    """One phase of a training. What is left out is taken from `train`."""

    free: str = ""  # which part of the network learns, see train.free
    epochs: int = 0  # 0 = as many as train.epochs
    learning_rate: float = 0.0  # 0 = train.learning_rate
    schedule: str = ""  # "" = train.schedule
    image_size: int = 0  # px that this phase trains on; validation stays at train.image_size
    augment: str = ""  # "" = train.augment

    def __post_init__(self) -> None:
        _require(not self.free or _is_free(self.free), f"train.stages: free {FREE_FORMS}, not {self.free!r}")
        _require(
            self.epochs >= 0 and self.learning_rate >= 0 and self.image_size >= 0,
            "train.stages: epochs, learning_rate and image_size must not be negative",
        )


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `dfpipe train`."""

    model: str = "tf_efficientnet_lite0"  # any name that timm knows, or one of dfpipe.train.cnns
    pretrained: str = "auto"  # auto (ImageNet weights if they can be had) | imagenet (they must be had) | none
    weights_dir: str = ""  # folder with files of ImageNet weights, for machines without network
    start_from: str = ""  # a model file whose weights to begin with, instead of ImageNet weights: fine-tuning
    head: HeadConfig = field(default_factory=HeadConfig)
    normalise: str = "backbone"  # backbone (as it was pretrained) | imagenet | half (0.5, 0.5) | none (0..1)
    image_size: int = 192  # px of the square that the network sees
    epochs: int = 6  # at most, see early_stop
    batch_size: int = 32  # crops in one step, of each process
    accumulate: int = 1  # steps whose gradients are joined into one update
    optimizer: str = "adamw"  # adamw | adam | sgd
    learning_rate: float = 6e-4  # the peak, for one_cycle
    weight_decay: float = 0.01  # of the optimizer
    schedule: str = "one_cycle"  # one_cycle | cosine | plateau | constant
    plateau_factor: float = 0.2  # for plateau: the rate is multiplied by this ...
    plateau_patience: int = 5  # ... after so many epochs without a better validation ...
    min_learning_rate: float = 0.0  # ... down to this
    free: str = "all"  # which part learns: all | frozen (the head alone) | last N (blocks and the head)
    stages: tuple[StageConfig, ...] = ()  # phases one after the other; none = one phase with the values above
    label_smoothing: float = 0.0  # 0.1 = a fake is to get 0.9, a real one 0.1
    class_weights: str = "none"  # none | balanced: the rarer label counts more in the loss
    balance: str = "source"  # none | label | source | dataset_label | dataset_root | paired: how often what is shown
    augment: str = "strong"  # none | light | recoded | strong | self_blend | recoded_blend
    blend_share: float = 0.5  # of the real crops shown that self-blending turns into fakes
    samples_per_epoch: int = 0  # 0 = all
    clip_norm: float = 0.0  # of the whole gradient; 0 = no clipping
    ema: float = 0.0  # decay of the running mean of the weights that is validated and kept; 0 = off
    precision: str = "auto"  # auto (lower on a GPU) | fp32 | bf16 | fp16 (GPU only)
    early_stop: int = 3  # epochs of a phase without a better validation before it ends; 0 = never
    monitor: str = "auc"  # auc | loss | accuracy | f1, on validation: picks the epoch whose weights are kept
    keep_epochs: tuple[int, ...] = ()  # epochs whose weights are kept too
    loader_workers: int = -1  # processes that read crops; -1 = as many as cores, at most 8
    checkpoint_minutes: float = 10.0  # between saves in the middle of an epoch; every epoch's end is saved anyway

    def __post_init__(self) -> None:
        for name in ("image_size", "epochs", "batch_size", "accumulate"):
            _require(getattr(self, name) >= 1, f"train.{name} must be at least 1")
        for name in (
            "plateau_patience",
            "weight_decay",
            "min_learning_rate",
            "samples_per_epoch",
            "early_stop",
            "clip_norm",
        ):
            _require(getattr(self, name) >= 0, f"train.{name} must not be negative")
        _require(self.learning_rate > 0, "train.learning_rate must be above 0")
        _require(self.checkpoint_minutes > 0, "train.checkpoint_minutes must be above 0")
        _require(0 < self.plateau_factor < 1, "train.plateau_factor must lie between 0 and 1")
        _require(0 <= self.label_smoothing < 0.5, "train.label_smoothing must lie in 0..0.5, 0.5 excluded")
        _require(0 <= self.ema < 1, "train.ema must lie in 0..1, 1 excluded")
        _require(0 <= self.blend_share <= 1, "train.blend_share must lie in 0..1")
        _require(_is_free(self.free), f"train.free {FREE_FORMS}, not {self.free!r}")
        for name, known in (("pretrained", ("auto", "imagenet", "none")), ("class_weights", ("none", "balanced"))):
            value = getattr(self, name)
            _require(value in known, f"train.{name} must be one of {', '.join(known)}, not {_shown(value)}")
        _require(self.loader_workers >= -1, "train.loader_workers must be -1 (as many as cores) or a number")
        _require(
            self.balance != "paired" or self.batch_size % 2 == 0,
            "train.batch_size must be even for train.balance=paired, so that no pair is cut",
        )


FREE_FORMS = "must be all, frozen, or 'last N' with N from 1"


def _is_free(text: str) -> bool:
    word, _, count = text.partition(" ")
    return text in ("all", "frozen") or (word == "last" and count.isdecimal() and int(count) >= 1)


@dataclass(frozen=True)
class InferConfig:
    """Settings of `dfpipe infer`. How crops are cut is not here: it comes from the model file."""

    aggregate: str = "mean_logit"  # frame scores of one person to one score
    min_frames: int = 4  # a person seen in fewer frames of a clip counts as uncertain
    batch_size: int = 32  # crops in one step; on a CPU at most four, which is faster there

    def __post_init__(self) -> None:
        _require(self.min_frames >= 1, "infer.min_frames must be at least 1")
        _require(self.batch_size >= 1, "infer.batch_size must be at least 1")


@dataclass(frozen=True)
class Config:
    """All settings of one run."""

    seed: int = 0  # of everything random: splits, order of crops, augmentation, first weights
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    infer: InferConfig = field(default_factory=InferConfig)

    def with_preprocess(self, **changes: Any) -> "Config":
        """The same settings with some of `preprocess` changed."""
        return dataclasses.replace(self, preprocess=dataclasses.replace(self.preprocess, **changes))

    def with_train(self, **changes: Any) -> "Config":
        """The same settings with some of `train` changed."""
        return dataclasses.replace(self, train=dataclasses.replace(self.train, **changes))


def load_config(name_or_file: str = "default", overrides: Sequence[str] = ()) -> Config:
    """Reads a recipe by name or a YAML file, then applies `key=value` overrides with dotted keys.

    Raises:
        ConfigError: No such recipe or file, not YAML, an unknown key, or a value of the wrong type or range.
    """
    tree = _read_yaml(name_or_file)
    for override in overrides:
        key, equals, value = override.partition("=")
        _require(bool(equals and key.strip()), f"--set takes KEY=VALUE, as train.epochs=3, not {override!r}")
        _set(tree, key.strip().split("."), _parse(value, f"--set {override}"))
    return from_mapping(Config, tree)


def recipes() -> list[str]:
    """Names of the recipes that ship with dfpipe."""
    return sorted(f.name[:-5] for f in resources.files("dfpipe.configs").iterdir() if f.name.endswith(".yaml"))


def setting_names(cls: type = Config, where: str = "") -> list[str]:
    """Dotted names of all settings, as --set takes them."""
    hints = typing.get_type_hints(cls).items()
    below = {
        name: setting_names(hint, f"{where}{name}.") for name, hint in hints if hasattr(hint, "__dataclass_fields__")
    }
    return [each for name, _ in hints for each in below.get(name, [where + name])]


def about(name: str) -> list[str]:
    """What the head of a recipe's file says, line by line; the first line is its title."""
    text = (resources.files("dfpipe.configs") / f"{name}.yaml").read_text(encoding="utf-8")
    return [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())]


def from_mapping(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Builds a config dataclass from nested plain values, strictly.

    Raises:
        ConfigError: An unknown key or a wrong type, named by its dotted path.
    """
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ConfigError(
                f"unknown setting {where + str(key)!r}{did_you_mean(str(key), hints)}; known here: {', '.join(hints)}"
            )
    return cls(**{key: _coerce(hints[key], value, where + key) for key, value in values.items()})


def to_mapping(config: Any) -> dict[str, Any]:
    """The inverse of `from_mapping`: nested plain values, tuples as lists, ready for YAML and JSON."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def to_yaml(config: Any) -> str:
    """The config as YAML, in the order of its dataclass."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _read_yaml(name_or_file: str) -> dict[str, Any]:
    if name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file:
        try:
            text = Path(name_or_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"config file {name_or_file} cannot be read: {reason_of(error)}") from error
    elif name_or_file in recipes():
        text = (resources.files("dfpipe.configs") / f"{name_or_file}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigError(
            f"unknown recipe {name_or_file!r}{did_you_mean(name_or_file, recipes())}; "
            f"there are: {', '.join(recipes())} (a file of your own ends in .yaml)"
        )
    tree = _parse(text, name_or_file)
    if tree is None:
        return {}
    _require(isinstance(tree, dict), f"{name_or_file} must hold settings as 'key: value', not {_shown(tree)}")
    return typing.cast(dict[str, Any], tree)


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # also a date or number that cannot be, brackets without end
        raise ConfigError(f"{what} is not valid YAML{_where_in(error)}") from error


def _where_in(error: Exception) -> str:
    """Line and fault, counted from 1, where YAML's reader knows them."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: {error.problem}"
    return f": {error}"


def _set(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        _require(isinstance(tree, dict), f"--set {'.'.join(keys)}: {key!r} holds a value, not settings")
    tree[keys[-1]] = value


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """Checks one value against its annotation; whole numbers pass as floats, lists as tuples."""
    if dataclasses.is_dataclass(hint):
        _require(
            isinstance(value, Mapping),
            f"{where} is a group of settings: set one of them, not {_shown(value)}",
        )
        return from_mapping(typing.cast(type, hint), value, where + ".")
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if inner[-1] is Ellipsis:
            _require(isinstance(value, list | tuple), f"{where} must be a list, not {_shown(value)}")
            inner = inner[:1] * len(value)
        ok = isinstance(value, list | tuple) and len(value) == len(inner)
        _require(ok, f"{where} must be a list of {len(inner)} values, not {_shown(value)}")
        return tuple(_coerce(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(inner, value, strict=True)))
    if hint is float and isinstance(value, str):
        value = _as_float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _require(type(value) is hint, f"{where} must be {_name(hint)}, not {_shown(value)}")
    return value


def _as_float(text: str) -> Any:
    """YAML 1.1 reads 6e-4 as text because it has no dot; people mean the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: Any) -> str:
    """A value from a file, in short: ten references of YAML can stand for more text than there is memory."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    return short.repr(value)


def _name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "null"}
    return names.get(hint, str(hint))
