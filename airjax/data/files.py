"""Which files in a folder are pictures, and which are passed over. Nothing is written there."""

import os
from pathlib import Path
from typing import NamedTuple

from airjax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".webp")
HIDDEN = ("__MACOSX", "Thumbs.db", "desktop.ini")  # and names that begin with a dot
RUN = "config.json"  # a folder with it, and one of these, is a run of airjax
RUN_PARTS = {"data.json", "metrics.jsonl", "model", "seeds.json"}
RESULTS = (
    {"objects.csv", "counts.csv"}, {"objects.parquet"}, {"predictions.json"},
    {"coco_results.json"}, {"contact_sheet.png", "drawn"}, {"agreement.png"},
    {"plan.json", "counts", "objects"}, {"tracks.csv", "tracks.json"},
)  # fmt: skip


class Found(NamedTuple):
    """What is in a folder, and in folders below it.

    Attributes:
        files: the pictures, by path.
        passed_over: all else, by kind.
    """

    files: list[Path]
    passed_over: dict[str, list[Path]]

    def report(self) -> list[str]:
        """A line for each kind that was passed over."""
        return [
            f"passed over: {kind}: {paths[0]}"
            + (f" and {n - 1} more" if (n := len(paths)) > 1 else "")
            for kind, paths in self.passed_over.items()
        ]


def picture_files(folder: Path, argument: str = "data") -> Found:
    """All picture files in a folder and in folders below it; or the one file given. Links to
    folders are followed, to each folder once.

    Raises:
        InputError: if there is no picture; it names ``argument``.
    """
    if folder.is_file():
        return Found([folder], {})
    files, passed_over, seen = list[Path](), dict[str, list[Path]](), set[str]()

    def leave_out(kind: str, path: Path) -> None:
        passed_over.setdefault(kind, []).append(path)

    def unreadable(error: OSError) -> None:
        leave_out(f"folders that cannot be read ({error.strerror})", Path(error.filename))

    for top, below, names in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(top)
        if (real := os.path.realpath(top)) in seen:
            below.clear()
            leave_out("folders already seen by another path", here)
            continue
        seen.add(real)
        if is_of_airjax({*below, *names}):
            below.clear()
            leave_out("runs and results of airjax", here)
            continue
        for name in sorted(filter(is_hidden, below)):
            below.remove(name)
            leave_out("hidden folders", here / name)
        for path in (here / name for name in sorted(names)):
            if is_hidden(path.name):
                leave_out("hidden files", path)
            elif path.suffix.lower() not in SUFFIXES:
                leave_out(f"files that are not {', '.join(SUFFIXES)}", path)
            elif path.is_file():
                files.append(path)
    if not files:
        rule = f"must hold pictures ({', '.join(SUFFIXES)}) or be an .npz file; there are none"
        raise InputError(argument, rule, folder)
    return Found(sorted(files, key=lambda path: path.as_posix()), passed_over)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that file managers do not show."""
    return name.startswith(".") or name in HIDDEN


def is_of_airjax(names: set[str]) -> bool:
    """Whether a folder with these names in it is a run, or results of ``airjax predict`` or
    ``track``."""
    return (RUN in names and bool(names & RUN_PARTS)) or any(names >= part for part in RESULTS)


def check_outside(out: Path, pictures: Path) -> None:
    """Checks that nothing will be written in a folder of pictures.

    Args:
        out: what will be written.
        pictures: the folder, or one picture in it.

    Raises:
        InputError: if ``out`` is in it.
    """
    in_folder = pictures.is_file() and pictures.suffix not in (".npz", ".npy")
    folder = pictures.parent if in_folder else pictures
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        rule = f"must not be in the folder of pictures; --out ../{out.name}, for example"
        raise InputError("out", rule, out)
