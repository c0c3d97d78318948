"""What is shown: a progress bar on a terminal, plain lines elsewhere, tables of results."""

import contextlib
import html
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from airjax.config import TrainConfig

MINUTE = 60.0  # seconds between two lines where nothing can be changed that was printed
PATIENCE = 2.0  # seconds before progress is shown

_Part = TypeVar("_Part")

console = Console(highlight=False, markup=False, emoji=False)  # names are shown as they are
# NumPyro imports tqdm, which asks in notebooks for widgets that no bar here needs
warnings.filterwarnings("ignore", "IProgress not found")


def report(line: str, to_stderr: bool = False) -> None:
    """Prints a line, as it is, whatever the width of the terminal. One to stderr is not printed,
    either, where the console is quiet."""
    if to_stderr and console.quiet:
        return
    if to_stderr:
        print(f"airjax: {line}", file=sys.stderr)
    else:  # the bytes of a name that is not UTF-8 are shown as escapes
        text = line.encode("utf-8", "backslashreplace").decode()
        console.print(text, soft_wrap=True)


class Decision(NamedTuple):
    """What was decided from the data: what it is, its value, and the flag that changes it."""

    what: str
    value: str
    flag: str


def decisions_table(decisions: Iterable[Decision]) -> Table:
    """What was decided from the data, a line each."""
    table = Table("decided from the data", "", "flag", box=None, pad_edge=False)
    for decision in decisions:
        table.add_row(*decision)
    return table


class Display:
    """Shows how far something is: a bar on a terminal and in a notebook, elsewhere a line a
    minute. A context manager.

    Args:
        what: is being done.
        total: the number of units; None where it is not known.
    """

    def __init__(self, what: str, total: int | None):
        self.what, self.total = what, total
        self.reported = time.perf_counter()
        self.cell: Any = None  # of a notebook, with the line
        self.bar = Progress(
            TextColumn(what), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(), console=console,
            disable=console.is_jupyter or not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task(what, total=total, line="compiling")

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, done: int, line: str = "") -> None:
        """The number of units done, and a few words."""
        if console.is_jupyter:
            self._show_in_cell(done, self._text(done, line))
        elif console.is_terminal:
            self.bar.update(self.task, completed=done, line=line)
        elif time.perf_counter() - self.reported >= MINUTE:
            self.reported = time.perf_counter()
            report(self._text(done, line), to_stderr=True)

    def _text(self, done: int, line: str) -> str:
        of_total = f"{done}" if self.total is None else f"{done}/{self.total}"
        return f"{self.what} {of_total}  {line}".rstrip()

    def _show_in_cell(self, done: int, text: str) -> None:
        """Rich's bar would need ipywidgets; every notebook has IPython's display, and every browser
        a bar."""
        from IPython import display

        bar = f'<progress value="{done}" max="{self.total}"></progress> ' if self.total else ""
        content = display.HTML(f"<pre>{bar}{html.escape(text)}</pre>")
        if self.cell is None:
            self.cell = display.display(content, display_id=True)
        else:
            self.cell.update(content)


def tracked(
    parts: Iterable[_Part],
    what: str,
    total: int | None = None,
    units: Callable[[_Part], int] = lambda _: 1,
) -> Iterator[_Part]:
    """The parts of something in turn. How many of their units are done is displayed, if it takes
    longer than ``PATIENCE`` seconds.

    Args:
        parts: of it.
        what: is being done.
        total: the number of units; None where it is not known.
        units: how many a part has.
    """
    begin, done = time.perf_counter(), 0
    with contextlib.ExitStack() as stack:
        display = None
        for part in parts:
            yield part
            done += units(part)
            if display is None and time.perf_counter() - begin > PATIENCE:
                display = stack.enter_context(Display(what, total))
            if display is not None:
                display.show(done)


class TrainingProgress:
    """Shows the rows of metrics of a training. A context manager.

    Args:
        config: of the training.
        each: whether each row is a line where there is neither a terminal nor a notebook, instead
            of one a minute.
    """

    def __init__(self, config: TrainConfig, each: bool = True):
        self.config, self.each = config, each
        self.accuracy: float | None = None
        self.display = Display("training", config.num_steps)

    def __enter__(self) -> "TrainingProgress":
        self.display.__enter__()
        if console.is_jupyter:
            self.display.show(0, "compiling")
        return self

    def __exit__(self, *_: object) -> None:
        self.display.__exit__()

    def show(self, row: dict[str, Any]) -> None:
        """One row of metrics, see `airjax.training.trainer.Trainer.run`."""
        self.accuracy = row.get("test_count_accuracy", self.accuracy)
        line = f"ELBO {row['elbo']:.1f}"
        if self.accuracy is not None:
            line += f"  held-out count accuracy {self.accuracy:.3f}"
        line += f"  {row['images_per_second']:.0f} images/s"
        if console.is_terminal or console.is_jupyter or not self.each:
            self.display.show(row["step"], line)
        else:
            remaining = row["seconds"] / row["step"] * (self.config.num_steps - row["step"])
            report(f"step {row['step']}/{self.config.num_steps}  {line}  {remaining:.0f} s left")


def duration(seconds: float) -> str:
    """A time in words, as ``2 h 5 min``, ``35 min`` or ``50 s``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


LOOKS = {True: "with a second look, ", None: "doubtful images with a second look, ", False: ""}


def report_tables(report: dict[str, Any]) -> list[str | Table]:
    """The scores of `airjax.inference.metrics`, with their settings, as tables."""
    s = report["settings"]
    title = (
        f"{s['n']} images of {s['data']} ({s['part']} part), "
        f"K = {s['num_paths']} paths, {LOOKS[s['second_look']]}"
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
        ("count_accuracy_sure", "count accuracy, without the 1 % most doubtful"),
        ("calibration_error", "calibration error of the count, 15 bins"),
    ):
        if key in report:
            table.add_row(name, f"{100 * report[key]:.2f} %")
    for key, name in (("window_boxes", "window boxes"), ("tight_boxes", "tight boxes")):
        for score, label in (("mean_iou", "mean IoU"), ("ap50", "AP at IoU 0.5")):
            value = report.get(key, {}).get(score)
            if value is not None:
                table.add_row(f"{name}, {label}", f"{value:.3f}")
    if report.get("ari_fg") is not None:
        table.add_row("segmentation, ARI of the foreground", f"{report['ari_fg']:.3f}")
    tables: list[str | Table] = [title, table]
    if "confusion_matrix" in report:
        matrix = report["confusion_matrix"]
        title = "true count (row), most probable count (column)"
        counts = Table("", *map(str, range(len(matrix))))
        for i, row in enumerate(matrix):
            counts.add_row(str(i), *map(str, row))
        tables += [title, counts]
    return tables


def health_table(findings: Iterable[tuple[str, str, str]]) -> Table:
    """What was measured without labels: what it is, the value, and what may be wrong."""
    table = Table("", "", "", show_header=False)
    for what, shown, doubt in findings:
        table.add_row(what, shown, doubt or "ok")
    return table


def seeds_table(reports: dict[int, dict[str, Any]], best: int) -> Table:
    """The scores of each seed; the best one is marked."""
    table = Table("seed", "ELBO (nats an image)", "count accuracy", "restarts", "")
    for seed, report in reports.items():
        accuracy = report.get("count_accuracy")
        shown = "" if accuracy is None else f"{100 * accuracy:.2f} %"
        kept = "kept" if seed == best else ""
        table.add_row(str(seed), f"{report['elbo']:.2f}", shown, str(report["restarts"]), kept)
    return table
