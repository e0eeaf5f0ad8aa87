"""Train: compose the configuration, plan the job, train its trunk and its runs.

`fmscale train model=gpt/4x128 budget.tokens=2e6` trains in this process; with `-m`, or a preset
that asks for it, Hydra hands all jobs to a launcher (`fmscale.launching`).
"""

from __future__ import annotations

import signal
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fmscale.config.compose import check_overrides
from fmscale.config.jobs import compose_job, refuse_secret
from fmscale.config.launchers import register_launchers
from fmscale.errors import config_errors_exit
from fmscale.launching.driver import Options
from fmscale.runs.secrets import find_secret
from fmscale.signals import Interrupted, interrupt
from fmscale.training.distributed.world import World, check_world, error_on_rank_zero


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="train")
def run(cfg: DictConfig) -> None:
    """One job, in this process."""
    with config_errors_exit(), error_on_rank_zero(world := World.here()):
        job = compose_job(cfg)
        check_world(job, world)

        from fmscale.launching.job_process import train_job

        if train_job(job, world, Options.of(HydraConfig.get().launcher)):
            sys.exit(1)


def main() -> None:
    """Entry point of `fmscale train`, `fmscale sweep` and `python -m fmscale.train`."""
    register_launchers()
    signal.signal(signal.SIGTERM, interrupt)
    # Before Hydra writes the command line into its own files.
    with config_errors_exit(), error_on_rank_zero(World.here()):
        refuse_secret(find_secret(sys.argv[1:], "the command line"))
        check_overrides(sys.argv[1:])
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(_stopped(130))
    except Interrupted as error:
        sys.exit(_stopped(128 + error.signum))


def _stopped(code: int) -> int:
    if World.here().leads:
        print("stopped; the same command resumes from the last checkpoints", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
