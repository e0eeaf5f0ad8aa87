"""Train: compose the configuration, plan the job, train its trunk and its runs.

`fmscale train model=gpt/4x128 budget.tokens=2e6` trains in this process; with `-m`, or a preset
that asks for it, Hydra hands all jobs to a launcher (`fmscale.launching`).
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from fmscale.build import build_shape, complete_data
from fmscale.composition import check_sizes
from fmscale.content import marks
from fmscale.job import Job
from fmscale.launching import register_launchers
from fmscale.launching.driver import Options
from fmscale.planner import under_known_ids
from fmscale.runs.secrets import find_secret
from fmscale.settings import ConfigError, config_errors_exit
from fmscale.signals import Interrupted, interrupt
from fmscale.world import World, check_world, one_speaks


def plan_job(cfg: DictConfig) -> Job:
    """Resolve a composed configuration and work out steps and run ids, without torch.

    What files and code of one's own hold now is noted in it (`fmscale.content`).

    Raises:
        ConfigError: for values that are missing or contradict each other.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        if own.data.get("_target_") is not None:
            section: Any = OmegaConf.to_container(own.data, resolve=True)
            _refuse_secret(find_secret(section, "data"))  # before anything quotes it
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
    _refuse_secret(find_secret(plain))
    plain["content"] = marks(plain)
    return under_known_ids(Job.plan(plain, build_shape(plain)))


def _refuse_secret(where: str | None) -> None:
    """A configuration is stored with every run, so it holds no keys."""
    if where is not None:
        raise ConfigError(
            f"{where} holds a key or a password, and configurations are stored; leave it to the "
            "environment (WANDB_API_KEY, HF_TOKEN, ...), where the libraries look for it"
        )


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="train")
def run(cfg: DictConfig) -> None:
    """One job, in this process."""
    with config_errors_exit(), one_speaks(world := World.here()):
        job = plan_job(cfg)
        check_world(job, world)

        from fmscale.launching.job_process import train_job

        if train_job(job, world, Options.of(HydraConfig.get().launcher)):
            sys.exit(1)


def main() -> None:
    """Entry point of `fmscale train`, `fmscale sweep` and `python -m fmscale.train`."""
    register_launchers()
    signal.signal(signal.SIGTERM, interrupt)
    # Before Hydra writes the command line into its own files.
    with config_errors_exit(), one_speaks(World.here()):
        _refuse_secret(find_secret(sys.argv[1:], "the command line"))
        check_sizes(sys.argv[1:])
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(_stopped(130))
    except Interrupted as error:
        sys.exit(_stopped(128 + error.signum))


def _stopped(code: int) -> int:
    if World.here().leads:
        print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
