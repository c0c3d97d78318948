"""The figures of the gallery: ``python docs/gallery_figures.py docs/figures``.

Six held-out scenes of each data set as `airjax data` composes them: the first ones with an
object.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from PIL import Image

from airjax import data

SCENES, HEIGHT, GAP = 6, 128, 6  # in a figure; pixels
NAMES = (
    "multi-mnist", "digits", "sprites", "noisy-mnist", "grid-mnist", "supair-sprites",
    "occluded-sprites", "scattered-mnist", "scattered-mnist-84", "occluded-mnist", "multi-dsprites",
)  # fmt: skip


def strip(name: str) -> Image.Image:
    """Scenes side by side."""
    scenes = data.make(name, "test", replace(data.DATASETS[name].scenes, num_scenes=40))
    images = scenes.images[scenes.counts > 0][:SCENES]
    drawn = Image.new("RGB", (SCENES * (HEIGHT + GAP) - GAP, HEIGHT), "white")
    for i, image in enumerate(images):
        square = Image.fromarray(image).convert("RGB").resize((HEIGHT, HEIGHT), 0)
        drawn.paste(square, (i * (HEIGHT + GAP), 0))
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name in NAMES:
        path = folder / f"gallery_{name}.png"
        strip(name).quantize(64).save(path, optimize=True)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
