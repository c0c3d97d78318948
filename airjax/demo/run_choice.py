"""The runs that the page offers: each is loaded when it is chosen."""

from collections import OrderedDict
from pathlib import Path

from airjax.console import report
from airjax.demo.exhibit import Exhibit
from airjax.training.runs import Run

LOADED = 3  # runs in memory


class RunChoice:
    """Runs, the one that is shown first in front.

    Args:
        runs: with trained models, at least one.
        data_dir: folder with MNIST's files.
    """

    def __init__(self, runs: list[Run], data_dir: Path | None = None):
        self.runs, self.data_dir = runs, data_dir
        self.loaded = OrderedDict[int, Exhibit]()

    @property
    def choices(self) -> list[tuple[str, int]]:
        """The name of each run and of its data, and its index."""
        return [
            (f"{run.path.name} ({Path(run.config.train.data).name})", i)
            for i, run in enumerate(self.runs)
        ]

    def exhibit(self, i: int = 0) -> Exhibit:
        """What is shown of one run; the last ``LOADED`` stay in memory.

        Raises:
            InputError: if its model cannot be loaded.
        """
        if i not in self.loaded:
            report(f"reading held-out images with {self.runs[i].path}")
            self.loaded[i] = Exhibit.of(self.runs[i], self.data_dir)
        self.loaded.move_to_end(i)
        while len(self.loaded) > LOADED:
            self.loaded.popitem(last=False)
        return self.loaded[i]
