"""From a composed configuration to a job, and from a command line to all jobs of its sweep."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from fmscale.config.build import build_shape, complete_data
from fmscale.config.compose import Composer, check_overrides
from fmscale.config.launchers import register_launchers
from fmscale.errors import ConfigError
from fmscale.planning.content import marks
from fmscale.planning.job import Job
from fmscale.planning.store_plan import merge, under_known_ids
from fmscale.runs.secrets import find_secret


def expand(overrides: list[str]) -> list[Job]:
    """All jobs of a sweep, planned as the launcher would.

    Args:
        overrides: as on the command line of `fmscale sweep`.

    Raises:
        ConfigError: for a configuration that could not be trained.
    """
    register_launchers()
    check_overrides(overrides)
    try:
        with initialize_config_module("conf", version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(config_loader=loader)
            given = parser.parse_overrides(overrides)
            single = [o.input_line for o in given if not o.is_sweep_override() and o.input_line]
            base = compose("train", overrides=single, return_hydra_config=True)
            in_preset = [
                f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()
            ]
            grid = parser.parse_overrides([*in_preset, *overrides])
            (combinations,) = BasicSweeper.split_arguments(grid, max_batch_size=None)
            composed = Composer(loader, lambda own: compose("train", overrides=own))
            return merge([compose_job(composed(c)) for c in combinations])
    except HydraException as error:
        raise ConfigError(str(error)) from error
    except ConfigError:
        raise
    except ValueError as error:  # how Hydra refuses `group=null` within a sweep
        raise ConfigError(f"{error} ({' '.join(overrides)})") from error


def compose_job(cfg: DictConfig) -> Job:
    """Resolve a composed configuration and work out steps and run ids, without torch.

    What files and code of one's own hold now is noted in it (`fmscale.planning.content`).

    Raises:
        ConfigError: for values that are missing or contradict each other.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        if own.data.get("_target_") is not None:
            section: Any = OmegaConf.to_container(own.data, resolve=True)
            refuse_secret(find_secret(section, "data"))  # before anything quotes it
            own.data = complete_data(section)
        config = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        remedy = f"give {error.full_key}=..."
        if str(error.full_key).startswith("budget."):
            remedy += " (or choose another horizon: budget=tokens|samples|tokens_per_param|flops)"
        raise ConfigError(f"{error.full_key} has no value; {remedy}") from error
    except InterpolationKeyError as error:
        raise ConfigError(
            f"{error.full_key} refers to a value that the chosen data does not have "
            f"({str(error).splitlines()[0]}); choose model, data, objective and evaluation of one "
            "family, e.g. model=clip/2x32 data=scenes objective=contrastive evaluation=zero_shot "
            "budget=samples"
        ) from error
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items()}
    refuse_secret(find_secret(plain))
    plain["content"] = marks(plain)
    return under_known_ids(Job.plan(plain, build_shape(plain)))


def refuse_secret(where: str | None) -> None:
    """A configuration is stored with every run, so it holds no keys."""
    if where is not None:
        raise ConfigError(
            f"{where} holds a key or a password, and configurations are stored; leave it to the "
            "environment (WANDB_API_KEY, HF_TOKEN, ...), where the libraries look for it"
        )
