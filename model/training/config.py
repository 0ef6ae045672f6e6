"""Resolve a configuration with Hydra: files in `conf` and overrides of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, Literal

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from saccade.model.config import ModelConfig
from saccade.model.training.errors import InvalidSetting, UnknownSetting

CONF: Final = Path(__file__).parent / "conf"
PATHS: Final = ("data_dir", "output_dir", "resume", "checkpoint", "figures")
"""Settings of a file or a folder."""
PLACES: Final = ("system.coordinator", "system.processes", "system.process")
"""Settings of one process among several, which may be elsewhere when a run resumes."""
Root = Literal["config", "evaluate"]

# Files of `model` extend this one, so that defaults stand in ModelConfig alone.
ConfigStore.instance().store(
    group="model",
    name="base",
    node={f.name: f.default for f in fields(ModelConfig) if f.default is not MISSING},
)


def resolve(root: Root, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration from its files and overrides.

    Args:
        root: The main file in `conf`.
        overrides: Words such as `task=nmnist` and `training.epochs=3`.

    Returns:
        Plain values: dicts, lists, strings and numbers.

    Raises:
        UnknownSetting: No configuration has this key or this option.
        InvalidSetting: An override is malformed, or a value is missing.
    """
    paths = dict(path for path in map(_path, overrides) if path)
    overrides = [override for override in overrides if not _path(override)]
    parsed = [_parse(override) for override in overrides]
    choices = [o.input_line for o in parsed if _is_group(o.key_or_group)]
    known = list(_keys(_compose(root, choices)))
    for override in parsed:
        key = override.key_or_group
        if not override.is_add() and not _is_group(key) and key not in known:
            raise UnknownSetting("setting", key, [*known, *_groups()])
    for key in paths:
        if key not in known:
            raise UnknownSetting("setting", key, [*known, *_groups()])
    return _compose(root, overrides) | paths


def load_saved(folder: Path, words: Sequence[str] = ()) -> dict[str, Any]:
    """Return the configuration in a run's folder, with `resume` set to the folder.

    Args:
        folder: The run's folder.
        words: Overrides of `PLACES`, which name this process among several.

    Raises:
        InvalidSetting: The folder holds no run, or a word overrides something else.
    """
    place = _place(words)
    file = folder / "config.yaml"
    if not file.is_file():
        raise InvalidSetting("resume", f"{folder} is no run's folder: no config.yaml")
    values = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(values, dict):
        raise InvalidSetting("resume", f"{file} is no mapping")
    found = {str(key): value for key, value in values.items()}
    if place:
        found["system"] = {**found.get("system", {}), **place}
    return found | {"resume": str(folder)}


def _place(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `system` that `words` give this process."""
    place = {}
    for word in words:
        key = word.partition("=")[0]
        if key not in PLACES:
            reason = f"beside it stand {', '.join(PLACES)}; all else is as it was begun"
            raise InvalidSetting("resume", f"{word!r} cannot change; {reason}")
        place[key.removeprefix("system.")] = _parse(word).value()
    return place


def as_yaml(configuration: Mapping[str, Any]) -> str:
    """Return a resolved configuration as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(configuration)))


def _path(override: str) -> tuple[str, str | None] | None:
    """Return the key and the path of an override of one of PATHS, else None.

    A path is taken as it is: Hydra's grammar gives a meaning to its =, (, #, quotes
    and letters of other alphabets. Quotes around all of it are Hydra's.
    """
    key, _, value = override.partition("=")
    if key not in PATHS or "${" in value or "=" not in override:
        return None
    if value[:1] in {"'", '"'} and len(value) > 1 and value[-1] == value[0]:
        value = value[1:-1].replace("\\" + value[0], value[0])
    return key, None if value in {"", "null"} else value


def _parse(override: str) -> Any:
    try:
        return OverridesParser.create().parse_overrides([override])[0]
    except HydraException:
        raise InvalidSetting(override, "it should read key=value") from None


def _compose(root: Root, overrides: Sequence[str]) -> dict[str, Any]:
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(root, overrides=list(overrides))
        values = OmegaConf.to_container(config, resolve=True)
    except MissingConfigException as error:
        raise _unknown_option(str(error.missing_cfg_file)) from None
    except HydraException as error:
        raise _explain(str(error)) from None
    except OmegaConfBaseException as error:
        raise InvalidSetting(str(error.full_key), str(error.msg)) from None
    if not isinstance(values, dict):
        raise InvalidSetting(root, "it is no mapping")
    return {str(key): value for key, value in values.items()}


def _explain(message: str) -> InvalidSetting:
    """Turn Hydra's `You must specify 'task', e.g, …` into an error about the group."""
    for group in _groups():
        if f"must specify '{group}'" in message:
            options = ", ".join(_options(group))
            return InvalidSetting(
                group, f"choose one, as in {group}=…; known: {options}"
            )
    return InvalidSetting("configuration", message)


def _unknown_option(name: str) -> UnknownSetting:
    group, _, option = name.partition("/")
    return UnknownSetting(group, option, _options(group))


def _groups() -> list[str]:
    return sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


def _options(group: str) -> list[str]:
    folder = CONF / group
    return sorted(
        file.relative_to(folder).with_suffix("").as_posix()
        for file in folder.rglob("*.yaml")
    )


def _is_group(key: str) -> bool:
    return key in _groups()


def _keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
