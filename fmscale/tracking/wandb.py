"""Weights & Biases: every branch is a W&B run, online when logged in, offline otherwise."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any

from fmscale.tracking.tracker import RunInfo

FORBIDDEN = "/\\#?%:"  # in names of W&B projects and entities
MODES = ("online", "offline", "disabled")
NO_KEY = "not logged in to W&B (run `wandb login`, or set WANDB_API_KEY)"
ANSWER_SECONDS = 5.0  # to wait for the server before training
START_SECONDS = 90.0  # to wait for it at the start of a run, as W&B does


class WandbTracker:
    """Logs rows to one W&B run at a time.

    Args:
        project: W&B project.
        entity: user or team; None: the default of the account.
        mode: one of `MODES`; None: `WANDB_MODE` if set, else online if an API key is known,
            else offline.
        tags: added to the tags every run gets (study, family, model).
        log_trunks: log trunks as runs of job type "trunk" as well.
    """

    def __init__(
        self,
        project: str = "fmscale",
        entity: str | None = None,
        mode: str | None = None,
        tags: list[str] | None = None,
        log_trunks: bool = True,
    ) -> None:
        if mode is not None and mode not in MODES:
            raise ValueError(f"logger.mode={mode!r}; use one of {', '.join(MODES)}, or null")
        for key, name in (("project", project), ("entity", entity)):
            if name is not None and (not name or set(name) & set(FORBIDDEN)):
                raise ValueError(f"logger.{key}={name!r}; W&B takes a name without {FORBIDDEN}")
        self.project = project
        self.entity = entity
        self.mode = mode
        self.tags = tuple(tags or ())
        self.log_trunks = log_trunks
        self._run: Any = None

    def reach(self) -> str | None:
        """Ask for the server: without it, this process and those that it starts log offline.

        Returns:
            Why they do, if a key is known and they do all the same.

        Raises:
            ConnectionError: if online was asked for by name, without a key or a server.
        """
        asked = self.mode or os.environ.get("WANDB_MODE")
        if asked not in (None, "online"):
            return None
        problem = why_offline()
        if asked is not None and problem is not None:
            key = "logger.mode" if self.mode else "WANDB_MODE"
            raise ConnectionError(f"{key}=online, but {problem}; take logger.mode=offline")
        if problem in (None, NO_KEY):
            return None
        os.environ["WANDB_MODE"] = "offline"
        return f"W&B: offline, since {problem}"

    def open(self, info: RunInfo) -> None:
        """Start the W&B run; a resumed run keeps its id.

        Rows logged before an interruption are logged again by the caller, so an offline folder
        that an earlier attempt left behind is removed: one folder holds the whole history.
        """
        if info.job_type == "trunk" and not self.log_trunks:
            return
        for stale in (info.folder / "wandb").glob(f"offline-run-*-{info.run_id}"):
            shutil.rmtree(stale)
        self._run = self._start(info, self._mode())
        # One horizontal axis is the default of every metric; the others are logged in each row,
        # so a panel can switch to them.
        for axis in ("step", info.unit, "flops"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric=info.unit)

    def _start(self, info: RunInfo, mode: str) -> Any:
        import wandb

        try:
            return wandb.init(
                project=self.project,
                entity=self.entity,
                id=info.run_id,
                name=info.name,
                group=info.study,
                job_type=info.job_type,
                tags=[*info.tags, *self.tags],
                config=info.config,
                dir=str(info.folder),
                mode=mode,  # type: ignore[arg-type]
                resume="allow",
                reinit="finish_previous",
                settings=wandb.Settings(
                    silent=True,
                    console="off",  # workers share a terminal with the sweep's display
                    disable_git=True,  # the record holds commit and dirty flag
                    disable_code=True,
                    x_disable_stats=True,
                    x_save_requirements=False,  # 0.1 s a run; the record holds versions
                    init_timeout=START_SECONDS,
                ),
            )
        except wandb.errors.CommError as error:
            if "online" in (self.mode, os.environ.get("WANDB_MODE")):
                raise
            # The server has gone since it was asked: what was not asked for by name stops no run.
            print(f"W&B: offline from here on: {str(error).splitlines()[0]}", file=sys.stderr)
            os.environ["WANDB_MODE"] = "offline"
            wandb.teardown()  # or it would hold the run's id
            return self._start(info, "offline")

    def log(self, row: dict[str, Any]) -> None:
        if self._run is not None:
            self._run.log(row, step=row["step"])

    def summarize(self, values: dict[str, Any]) -> None:
        if self._run is not None:
            self._run.summary.update(values)

    def table(self, name: str, rows: list[dict[str, Any]]) -> None:
        if self._run is not None and rows:
            import wandb

            columns: list[str | int] = list(rows[0])
            content = wandb.Table(columns=columns)
            for row in rows:
                content.add_data(*row.values())
            self._run.log({f"tables/{name}": content})

    def alert(self, title: str, text: str) -> None:
        if self._run is not None:
            self._run.alert(title=title, text=text, level="WARN")

    def close(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._run = None

    def _mode(self) -> str:
        if self.mode is not None:
            return self.mode
        if os.environ.get("WANDB_MODE") in MODES:
            return os.environ["WANDB_MODE"]
        import wandb

        return "online" if wandb.login(prompt=False, verify=False) else "offline"


def why_offline() -> str | None:
    """What stands between this process and the W&B server; None if nothing does."""
    import wandb

    known, address = _log_in(verify=False)
    if not known:
        return NO_KEY
    if (problem := _unreachable(address)) is not None:
        return f"{address} cannot be reached ({problem})"
    try:
        _log_in(verify=True)
    except wandb.errors.AuthenticationError:
        return f"{address} refuses the key"
    return None


def _log_in(*, verify: bool) -> tuple[bool, str]:
    """Whether a key is known, and the server it is for; W&B asks the server once in a session."""
    import wandb

    session = wandb.setup(settings=wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=verify), session.settings.base_url
    finally:
        wandb.teardown()


def _unreachable(address: str) -> str | None:
    """Why nobody answers at an address; None for any answer at all."""
    try:
        urllib.request.urlopen(address, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        reason = getattr(error, "reason", error)
        # W&B may know certificates that Python does not.
        return None if isinstance(reason, ssl.SSLError) else str(reason)
    return None
