import re
from pathlib import Path

import pytest
import yaml

from dfpipe.config import Config, FacesConfig, from_mapping, load_config, recipes, to_mapping, to_yaml
from dfpipe.errors import ConfigError


def test_default_recipe_repeats_the_dataclass_defaults(root: Path) -> None:
    written = yaml.safe_load((root / "configs" / "default.yaml").read_text(encoding="utf-8"))
    assert written == to_mapping(Config())


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_loads(name: str) -> None:
    assert isinstance(load_config(name), Config)


def test_yaml_round_trip() -> None:
    config = load_config("demo", ["seed=7"])
    assert from_mapping(Config, yaml.safe_load(to_yaml(config))) == config


def test_flags_win_over_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  epochs: 3\n  batch_size: 8\n")
    config = load_config(str(file), ["train.epochs=9", "train.learning_rate=6e-4", "preprocess.split=[0.5,0.25,0.25]"])
    assert (config.train.epochs, config.train.batch_size, config.train.learning_rate) == (9, 8, 6e-4)
    assert config.preprocess.split == (0.5, 0.25, 0.25)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.epoch=3", "'train.epoch' (did you mean 'epochs'?)"),
        ("preprocess.faces.frames=many", "preprocess.faces.frames must be a whole number"),
        ("preprocess.faces.frames=1.5", "preprocess.faces.frames must be a whole number"),
        ("preprocess.faces.frames=true", "preprocess.faces.frames must be a whole number"),
        ("preprocess.faces.frames=0", "at least 1"),
        ("preprocess.faces=3", "preprocess.faces is a group of settings"),
        ("preprocess.split=[0.9,0.2,0.2]", "add up to 1"),
        ("preprocess.split=[0.9,0.1]", "list of 3 values"),
        ("preprocess.limits.seconds=-1", "above 0"),
        ("train.learning_rate=fast", "train.learning_rate must be a number"),
        ("epochs", "KEY=VALUE"),
        ("train.epochs=[", "--set train.epochs=[ is not valid YAML, line 1: "),
        ("seed.deeper=1", "holds a value, not settings"),
    ],
)
def test_impossible_settings_are_named(override: str, part: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(part)):
        load_config("default", [override])


def test_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'default'.*demo"):
        load_config("defualt")


@pytest.mark.parametrize("text", ["- a\n- b\n", "train: [", "\x00"])
def test_broken_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_config(str(file))


def test_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"config file nowhere\.yaml cannot be read: No such file"):
        load_config("nowhere.yaml")


def test_empty_file_means_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("")
    assert load_config(str(file)) == Config()


def test_ranges_hold_for_python_callers_too() -> None:
    with pytest.raises(ConfigError, match="min_face"):
        FacesConfig(min_face=3)


def test_a_bomb_of_references_costs_no_memory(tmp_path: Path) -> None:
    levels = ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    (tmp_path / "bomb.yaml").write_text(f"seed: [&a0 [lol], {levels}]")
    with pytest.raises(ConfigError, match="seed must be a whole number"):
        load_config(str(tmp_path / "bomb.yaml"))  # as text it would be 9 ** 11 words
