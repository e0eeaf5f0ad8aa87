"""Configurations of a sweep's jobs: the files that many share are composed once.

For each job, Hydra would read and merge every file anew, which takes a tenth of a second or two.
Jobs that choose the same files differ in values alone: these are put into a copy, by Hydra's own
function and in its order, so that the result is the same.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

import conf
from fmscale.errors import ConfigError

RENAMED = {"hydra.launcher.pack": "hydra.launcher.vmap"}
SIZES = Path(next(iter(conf.__path__))) / "model"


def with_config_dir(overrides: Sequence[str], folder: str | None) -> list[str]:
    """Overrides that also search a folder for configurations, as `--config-dir` of Hydra does.

    Raises:
        ConfigError: if there is no such folder, or overrides name another search path.
    """
    if folder is None:
        return list(overrides)
    if not Path(folder).is_dir():
        raise ConfigError(f"--config-dir {folder} is no folder; give one with configurations")
    if any(override.startswith("hydra.searchpath=") for override in overrides):
        raise ConfigError("--config-dir and hydra.searchpath say the same; give one of them")
    return [f"hydra.searchpath=[{quoted(f'file://{Path(folder).resolve()}')}]", *overrides]


def quoted(text: str | Path) -> str:
    """A text as the value of an override, whatever is in it."""
    return "'" + str(text).replace("'", r"\'") + "'"


def compose_launcher(overrides: Sequence[str]) -> Any:
    """The launcher that a sweep with these overrides has, once ours are registered.

    Raises:
        ConfigError: for a launcher or an option that there is not.
    """
    check_overrides(overrides)
    try:
        with initialize_config_module("conf", version_base="1.3"):
            config = compose("train", overrides=list(overrides), return_hydra_config=True)
            return instantiate(config.hydra.launcher)
    except HydraException as error:
        raise ConfigError(str(error)) from error


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse earlier names, and sizes that are unknown: Hydra would list their families alone.

    Raises:
        ConfigError: for an option or a size (`gpt_2x64`) by its earlier name, for a size that
            fmscale lacks where no folder of one's own is searched, and for a glob over sizes.
    """
    for key, equals, value in (text.lstrip("+").partition("=") for text in overrides):
        if equals and key in RENAMED:
            raise ConfigError(f"{key}={value} is called {RENAMED[key]}={value} now")
    own = any("searchpath=" in text or text.startswith(("--config", "-c")) for text in overrides)
    for value in (text.removeprefix("model=") for text in overrides if text.startswith("model=")):
        if value.startswith("glob(") and "/" in value:
            raise ConfigError(f"model={value}: a glob sees no folders; name each size")
        for family, mark, size in re.findall(r"(\w+?)([/_])([\w.+-]+)", value):
            sizes = {path.stem for path in SIZES.glob(f"{family}/*.yaml")}
            if mark == "_" and size in sizes:
                raise ConfigError(f"model={family}_{size} is called model={family}/{size} now")
            if mark == "/" and sizes and size not in sizes and not own:
                known = ", ".join(sorted(sizes, key=lambda name: (len(name), name)))
                raise ConfigError(
                    f"model={family}/{size}: {family} has {known}; or model={family} "
                    "model.shape...=..."
                )


class Composer:
    """Composes jobs from their overrides; the node `hydra` is left out of what it gives.

    Args:
        loader: Hydra's, which knows what is a group and what a value.
        load: Hydra's way to compose one job, overrides -> configuration.
    """

    def __init__(self, loader: ConfigLoader, load: Callable[[list[str]], DictConfig]) -> None:
        assert isinstance(loader, ConfigLoaderImpl)
        self._load = load
        self._parser = OverridesParser.create(config_loader=loader)
        self._is_group = functools.cache(loader.repository.group_exists)
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """One job's configuration.

        Raises:
            HydraException: as Hydra would, for overrides that do not fit the configuration.
        """
        values = [text for text in overrides if self._is_value(self._parse(text))]
        choices = tuple(text for text in overrides if text not in values)
        if choices not in self._composed:
            whole = self._load(list(choices))
            with open_dict(whole):
                whole.pop("hydra", None)
            self._composed[choices] = whole
        config = copy.deepcopy(self._composed[choices])
        ConfigLoaderImpl._apply_overrides_to_config([self._parse(v) for v in values], config)
        return config

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            (self._parsed[text],) = self._parser.parse_overrides([text])
        return self._parsed[text]

    def _is_value(self, override: Override) -> bool:
        """Whether an override changes a value, and not which files are composed, or Hydra."""
        if override.is_hydra_override():
            return False
        return isinstance(override.value(), dict) or not self._is_group(override.key_or_group)
