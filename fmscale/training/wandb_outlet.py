"""Weights & Biases: every branch is a W&B run, online when logged in, offline otherwise."""

from __future__ import annotations

import os
import shutil
from typing import Any

from fmscale.training.outlet import RunCard

FORBIDDEN = "/\\#?%:"  # in names of W&B projects and entities
MODES = ("online", "offline", "disabled")


class WandbOutlet:
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

    def open(self, card: RunCard) -> None:
        """Start the W&B run; a resumed run keeps its id.

        Rows logged before an interruption are logged again by the caller, so an offline folder
        that an earlier attempt left behind is removed: one folder holds the whole history.
        """
        if card.job_type == "trunk" and not self.log_trunks:
            return
        import wandb

        for stale in (card.folder / "wandb").glob(f"offline-run-*-{card.run_id}"):
            shutil.rmtree(stale)
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=card.run_id,
            name=card.run_id,
            group=card.study,
            job_type=card.job_type,
            tags=[*card.tags, *self.tags],
            config=card.config,
            dir=str(card.folder),
            mode=self._mode(),  # type: ignore[arg-type]
            resume="allow",
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",  # workers share a terminal with the sweep's display
                disable_git=True,  # the record holds commit and dirty flag
                disable_code=True,
                x_disable_stats=True,
                x_save_requirements=False,  # 0.1 s a run; the record holds versions
            ),
        )
        # One horizontal axis is the default of every metric; the others are logged in each row,
        # so a panel can switch to them.
        for axis in ("step", card.unit, "flops"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric=card.unit)

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
