"""What ``--object-size auto`` makes of scenes with objects of several sizes, against the truth:
``python benchmarks/object_size.py --out docs/figures`` prints a table and draws object_size.png:
scenes with the window at the prior's mean scale, and at two standard deviations from it.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from airjax import data
from airjax.config import ModelConfig
from airjax.data.scenes import SceneConfig
from airjax.object_size import estimate, for_objects

SIZES = (12, 18, 24, 30)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    figure = Figure(figsize=(2.2 * len(SIZES), 4.6), layout="constrained")
    axes = figure.subplots(2, len(SIZES))
    print("| scenes | true larger side, median | estimate | scale_prior_mean | window_size |")
    print("|---|---|---|---|---|")
    for row, pool in zip(axes, ("multi-mnist", "sprites"), strict=True):
        for ax, size in zip(row, SIZES, strict=True):
            config = SceneConfig(
                num_scenes=300, height=80, width=80, counts=(1, 2), object_size=size,
                scale_mean=1.0, overlap="apart",
            )  # fmt: skip
            scenes = data.make(pool, "test", config)
            sides = (scenes.boxes[..., 2:] - scenes.boxes[..., :2]).max(-1)[scenes.labels >= 0]
            found = estimate(scenes.images)
            assert found is not None
            model = for_objects(ModelConfig(), found, (80, 80))
            print(
                f"| {pool}, `object_size` {size} | {np.median(sides):.0f} | {found:.0f} | "
                f"{model.scale_prior_mean} | {model.window_size} |"
            )
            ax.imshow(scenes.images[0], cmap="gray", extent=(0, 80, 80, 0))
            centre = (scenes.boxes[0, 0, :2] + scenes.boxes[0, 0, 2:]) / 2
            for shift, style in ((0, "-"), (-2, ":"), (2, ":")):
                side = 80 / (model.scale_prior_mean + shift * model.scale_prior_sd)
                corner = (centre[0] - side / 2, centre[1] - side / 2)
                ax.add_patch(
                    Rectangle(corner, side, side, fill=False, edgecolor="red", linestyle=style)
                )
            ax.set(xticks=[], yticks=[], title=f"about {found:.0f} pixels")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "object_size.png", dpi=100)


if __name__ == "__main__":
    main()
