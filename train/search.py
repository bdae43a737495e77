"""What a search may change in a config, and how: `train.weight_decay=1e-4..1e-1:log`, `train.augment=light,strong`. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dfpipe.config import Config, from_mapping, to_mapping
from dfpipe.errors import ConfigError, choose
from dfpipe.train.loop import CHOICES
from dfpipe.train.stages import stages_of

RATE = "train.learning_rate"
DEFAULT = f"{RATE}=1e-5..1e-2:log"
FORMS = "KEY=LOW..HIGH, KEY=LOW..HIGH:log, or KEY=A,B,C"


@dataclass(frozen=True)
class Search:
    """One setting and the values that it may take: a range, or the choices."""

    key: str  # dotted path in the config
    low: float = 0.0
    high: float = 0.0
    whole: bool = False  # only whole numbers
    log: bool = False  # as likely between 1 and 10 as between 10 and 100
    choices: tuple[Any, ...] = ()


def parse(text: str, config: Config) -> Search:
    """Reads one `--param`.

    Args:
        text: One of `FORMS`.
        config: In which the setting is searched; both ends of a range and every choice must be possible there.

    Raises:
        ConfigError: Not one of the forms, an unknown key, one by which trials cannot be compared, an empty range,
            or an impossible value.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not values:
        raise ConfigError(f"--param takes {FORMS}, not {text!r}")
    known = _value(config, key)
    if isinstance(known, list | dict):
        raise ConfigError(f"--param {key}: only a single number or word can be searched")
    search = _range(key, values, known) if ".." in values else _choices(key, values, known)
    for value in search.choices or (search.low, search.high):
        changed(config, {key: int(value) if search.whole else value})
    return search


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values.

    A learning rate moves those of all phases by one factor: the largest gets the value.

    Args:
        config: Any.
        values: By dotted path.

    Raises:
        ConfigError: An impossible value, or an unknown choice.
    """
    tree = to_mapping(config)
    for key, value in values.items():
        room, *above, last = key.split(".")
        if key == RATE and config.train.stages:
            _scale_rates(tree["train"], value / max(stage.learning_rate for stage in stages_of(config.train)))
            continue
        place = tree[room]
        for name in above:
            place = place[name]
        place[last] = value
        if last in CHOICES and not above:
            choose(CHOICES[last], str(value), key)
    return from_mapping(Config, tree)


def _scale_rates(train: dict[str, Any], factor: float) -> None:
    for place in (train, *train["stages"]):
        place["learning_rate"] *= factor


def _value(config: Config, key: str) -> Any:
    """What the config says now."""
    if not key.startswith("train."):
        raise ConfigError(f"--param {key}: only settings of training can be searched, as {RATE}")
    if key == "train.monitor":
        raise ConfigError(
            "--param train.monitor: it is what trials are compared by, and must be the same in all of them"
        )
    names = key.split(".")
    place: Any = to_mapping(config)
    for name in names:
        if not isinstance(place, dict) or name not in place:
            from_mapping(Config, _nested(names))  # says what is unknown, and which names are known
        place = place[name]
    shadowed = [bool(getattr(stage, names[-1], None)) for stage in config.train.stages]
    if key != RATE and len(names) == 2 and shadowed and all(shadowed):
        raise ConfigError(f"--param {key}: every phase of train.stages has its own, so that it changes nothing")
    return place


def _nested(names: Sequence[str]) -> dict[str, Any]:
    return {names[0]: _nested(names[1:]) if len(names) > 1 else None}


def _range(key: str, text: str, known: Any) -> Search:
    ends, _, scale = text.partition(":")
    if scale not in ("", "log"):
        raise ConfigError(f"--param {key}={text}: after the range only :log can stand, not {scale!r}")
    if isinstance(known, bool | str):
        raise ConfigError(f"--param {key}={text}: {key} is a word, not a number; list its values, as A,B")
    whole = isinstance(known, int)
    try:
        low, high = (float(end) for end in ends.split(".."))
    except ValueError as error:
        raise ConfigError(f"--param {key}={text}: a range is LOW..HIGH, two numbers") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"--param {key}={text}: the first number must be below the second")
    if whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"--param {key}={text}: {key} takes whole numbers")
    if scale == "log" and low <= 0:
        raise ConfigError(f"--param {key}={text}: a range with :log begins above 0")
    return Search(key, low, high, whole, scale == "log")


def _choices(key: str, text: str, known: Any) -> Search:
    try:
        values = tuple(yaml.safe_load(word) for word in text.split(","))
    except yaml.YAMLError as error:
        raise ConfigError(f"--param {key}={text}: not a list of values") from error
    if isinstance(known, float):
        values = tuple(_as_float(value, key) for value in values)
    if len(set(map(repr, values))) < max(len(values), 2):
        raise ConfigError(f"--param {key}={text}: list two or more different values, or a range as 1..10")
    return Search(key, choices=values)


def _as_float(value: Any, key: str) -> float:
    try:
        return float(value)  # YAML 1.1 reads 6e-4 as text
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--param {key}: {value!r} is no number") from error
