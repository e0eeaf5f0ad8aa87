"""A study's panels as a W&B workspace or report, by `wandb-workspaces` (extra `workspace`)."""

from __future__ import annotations

from typing import Any

from fmscale.tracking.panels import Panel, PanelSection

MAX_RUNS = 100  # lines in one panel; W&B shows 10 unless told


def build_workspace(
    sections: tuple[PanelSection, ...], *, study: str, entity: str, project: str
) -> Any:
    """A saved view of the project that shows the runs of one study.

    Returns:
        `wandb_workspaces.workspaces.Workspace`; its `save()` needs a W&B server.

    Raises:
        ValueError: if wandb-workspaces is not installed.
    """
    workspaces, reports = _libraries()
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"fmscale: {study}",
        sections=[
            workspaces.Section(name=section.name, panels=_panels(reports, section), is_open=True)
            for section in sections
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=[workspaces.Metric("Group") == study, workspaces.Metric("JobType") == "run"],
        ),
        settings=workspaces.WorkspaceSettings(max_runs=MAX_RUNS),
    )


def build_report(
    sections: tuple[PanelSection, ...], *, study: str, entity: str, project: str
) -> Any:
    """A page with the same panels, one grid for each section, over the study's runs.

    Returns:
        `wandb_workspaces.reports.v2.Report`; its `save()` needs a W&B server.

    Raises:
        ValueError: if wandb-workspaces is not installed.
    """
    _, reports = _libraries()
    blocks: list[Any] = [reports.TableOfContents()]
    for section in sections:
        runset = reports.Runset(
            entity=entity,
            project=project,
            name=study,
            filters=f"Metric('Group') == '{study}' and Metric('JobType') == 'run'",
        )
        blocks += [
            reports.H2(text=section.name),
            reports.PanelGrid(runsets=[runset], panels=_panels(reports, section)),
        ]
    return reports.Report(
        entity=entity,
        project=project,
        title=f"Scaling study {study}",
        description="Final losses against compute, size and data; training curves; rates.",
        blocks=blocks,
    )


def _panels(reports: Any, section: PanelSection) -> list[Any]:
    return [_panel(reports, panel) for panel in section.panels]


def _panel(reports: Any, panel: Panel) -> Any:
    shown = {"title": panel.title, "log_x": panel.log_x, "log_y": panel.log_y}
    if panel.kind == "scatter":
        x, y = map(reports.SummaryMetric, (panel.x, panel.y))
        return reports.ScatterPlot(x=x, y=y, **shown)
    labels = {"title_x": panel.x_label, "title_y": panel.y_label}
    return reports.LinePlot(x=panel.x, y=[panel.y], max_runs_to_show=MAX_RUNS, **labels, **shown)


def _libraries() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise ValueError(
            "W&B workspaces need the extra 'workspace': pip install 'fmscale[workspace]'"
        ) from error
    return workspaces, reports
