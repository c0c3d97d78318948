"""What is shown: a progress bar on a terminal, plain lines elsewhere, tables of results."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from airjax.config import TrainConfig

console = Console(highlight=False, markup=False, emoji=False)  # names are shown as they are


def report(line: str, to_stderr: bool = False) -> None:
    """Prints a line, as it is, whatever the width of the terminal."""
    if to_stderr:
        print(f"airjax: {line}", file=sys.stderr)
    else:  # the bytes of a name that is not UTF-8 are shown as escapes
        text = line.encode("utf-8", "backslashreplace").decode()
        console.print(text, soft_wrap=True)


class TrainingProgress:
    """Shows the rows of metrics of a training. A context manager."""

    def __init__(self, config: TrainConfig):
        self.config = config
        self.accuracy: float | None = None
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("training", total=config.num_steps, line="compiling")

    def __enter__(self) -> "TrainingProgress":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, row: dict[str, Any]) -> None:
        """One row of metrics, see `airjax.training.trainer.Trainer.run`."""
        self.accuracy = row.get("test_count_accuracy", self.accuracy)
        line = f"ELBO {row['elbo']:.1f}"
        if self.accuracy is not None:
            line += f"  held-out count accuracy {self.accuracy:.3f}"
        line += f"  {row['images_per_second']:.0f} images/s"
        if console.is_terminal:
            self.progress.update(self.task, completed=row["step"], line=line)
        else:
            remaining = row["seconds"] / row["step"] * (self.config.num_steps - row["step"])
            report(f"step {row['step']}/{self.config.num_steps}  {line}  {remaining:.0f} s left")


def report_tables(report: dict[str, Any]) -> list[str | Table]:
    """The scores of `airjax.inference.metrics`, with their settings, as tables."""
    s = report["settings"]
    title = (
        f"{s['n']} images of {s['data']} ({s['part']} part), "
        f"K = {s['num_paths']} paths, {'with a second look, ' if s['second_look'] else ''}"
        f"seed {s['seed']}, airjax {s['version']}"
    )
    table = Table("", "", show_header=False)
    table.add_row("ELBO (nats an image)", f"{report['elbo']:.2f}")
    if "iwae" in report:
        name = f"importance-weighted bound, {s['particles']} particles (nats an image)"
        table.add_row(name, f"{report['iwae']:.2f}")
    table.add_row(
        "reconstruction error (mean square a pixel)", f"{report['reconstruction_mse']:.5f}"
    )
    for key, name in (
        ("count_accuracy", "count accuracy, most probable count"),
        ("count_accuracy_sample", "count accuracy, one sample of the guide"),
    ):
        if key in report:
            table.add_row(name, f"{100 * report[key]:.2f} %")
    for key, name in (("window_boxes", "window boxes"), ("tight_boxes", "tight boxes")):
        for score, label in (("mean_iou", "mean IoU"), ("ap50", "AP at IoU 0.5")):
            value = report.get(key, {}).get(score)
            if value is not None:
                table.add_row(f"{name}, {label}", f"{value:.3f}")
    tables: list[str | Table] = [title, table]
    if "confusion_matrix" in report:
        matrix = report["confusion_matrix"]
        title = "true count (row), most probable count (column)"
        counts = Table("", *map(str, range(len(matrix))))
        for i, row in enumerate(matrix):
            counts.add_row(str(i), *map(str, row))
        tables += [title, counts]
    return tables


def seeds_table(reports: dict[int, dict[str, Any]], best: int) -> Table:
    """The scores of each seed; the best one is marked."""
    table = Table("seed", "ELBO (nats an image)", "count accuracy", "restarts", "")
    for seed, report in reports.items():
        accuracy = report.get("count_accuracy")
        shown = "" if accuracy is None else f"{100 * accuracy:.2f} %"
        kept = "kept" if seed == best else ""
        table.add_row(str(seed), f"{report['elbo']:.2f}", shown, str(report["restarts"]), kept)
    return table
