"""Tracks of particles beside those of trackpy, with the settings of its tutorial.

    airjax track RUN FRAMES --out tracked/colloids
    pip install trackpy
    python benchmarks/colloids.py FRAMES tracked/colloids/tracks.csv

FRAMES are the pictures that were tracked; in the documentation those of ``bulk_water`` in
github.com/soft-matter/trackpy-examples, dark particles in brown light, of which trackpy reads the
green channel. Prints how many particles both find, within 3 pixels, and how long their tracks are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import common
import numpy as np
import pandas as pd
import tyro
from PIL import Image
from scipy.spatial import KDTree
from tyro.conf import Positional

NEAR = 3.0  # pixels


@dataclass(frozen=True)
class Args:
    """What to compare.

    Attributes:
        frames: folder of pictures.
        tracks: the table of ``airjax track``.
        diameter: of trackpy, in pixels.
        minmass: of trackpy.
        search_range: of trackpy, in pixels.
        memory: of trackpy, in frames.
        clear: mass from which a particle of trackpy is clear.
    """

    frames: Annotated[Path, Positional]
    tracks: Annotated[Path, Positional]
    diameter: int = 11
    minmass: float = 20.0
    search_range: float = 5.0
    memory: int = 3
    clear: float = 100.0


def peers(args: Args) -> pd.DataFrame:
    """The tracks of trackpy."""
    import trackpy

    trackpy.quiet()
    frames = [  # dark particles become bright
        255 - np.asarray(Image.open(path).convert("RGB"))[..., 1]
        for path in sorted(args.frames.iterdir())
    ]
    found = trackpy.batch(frames, args.diameter, minmass=args.minmass, processes=1)
    return trackpy.link(found, args.search_range, memory=args.memory)


def near(some: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Whether each particle has one of the others in its frame."""
    found = np.zeros(len(some), bool)
    frames = some.frame.to_numpy()
    for frame in np.unique(frames):
        others_here = others.loc[others.frame == frame, ["x", "y"]]
        if len(others_here):
            distance, _ = KDTree(others_here).query(some.loc[frames == frame, ["x", "y"]])
            found[frames == frame] = distance < NEAR
    return found


def main(args: Args) -> None:
    """Compares and prints."""
    tables = {"airjax": pd.read_csv(args.tracks), "trackpy": peers(args)}
    ours, theirs = tables.values()
    number, rows = theirs.frame.nunique(), []
    for name, table in tables.items():
        lengths = table.groupby("particle").size()
        whole = (lengths == number).sum()
        a_frame = f"{len(table) / number:.0f}"
        rows.append([name, a_frame, len(lengths), f"{lengths.median():.0f}", whole])
    head = ["", "particles a frame", "tracks", "median length", f"in all {number} frames"]
    print(common.table(head, rows))
    clear = theirs[theirs.mass > args.clear]
    print(f"of trackpy's, airjax has {100 * near(theirs, ours).mean():.1f} %; of those with a mass "
          f"above {args.clear:g} ({len(clear) / number:.0f} a frame), "
          f"{100 * near(clear, ours).mean():.1f} %; of airjax's, trackpy has "
          f"{100 * near(ours, theirs).mean():.1f} %")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Args))
