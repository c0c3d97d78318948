"""Images a second and memory of ``AIR.predict_batches`` on a memory map of many images, and Pyro's
guide on the same images: ``python benchmarks/predict.py RUN --out FILE.json``.

RUN was trained on multi-mnist. Pyro's guide (`pyro_air.py`, untrained: that makes no difference to
its time) samples counts once an image; ours also averages the posterior over ``num_paths`` paths,
reads the mean path, decodes its objects and puts boxes around them.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import common
import numpy as np
import tyro

from airjax import AIR, data


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        run: folder of a run on multi-mnist.
        images: number of images, the 10,000 of the test set over and over; a tenth of them with a
            second look.
        pyro_images: number of those that Pyro's guide reads; 0 leaves it out.
        repeats: how often.
        out: JSON file for the results.
    """

    run: Annotated[Path, tyro.conf.Positional]
    images: int = 100_000
    pyro_images: int = 20_000
    repeats: int = 5
    out: Path | None = None


def rates(read: Callable[[], object], n: int, repeats: int) -> list[float]:
    """Images a second, at each turn."""
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        read()
        found.append(n / (time.perf_counter() - begin))
    return found


def memory() -> float:
    """Most memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main(args: Args) -> None:
    """Measures, prints and writes."""
    scenes = data.load("multi-mnist", "test")
    results, right = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path, shape = Path(folder) / "images.npy", (args.images, *scenes.image_shape)
        images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        for start in range(0, len(images), len(scenes)):
            part = images[start : start + len(scenes)]
            part[:] = scenes.images[: len(part)]
        del images
        mapped = np.load(path, mmap_mode="r")
        for k, second_look in ((5, False), (1, False), (5, True)):
            name = f"AIR.predict_batches, num_paths = {k}" + ", second_look" * second_look
            air = AIR.load(args.run)
            air.set_params(num_paths=k, second_look=second_look)
            counts = air.predict(scenes.images).counts  # compiles
            right[name] = float(np.mean(counts == scenes.counts))

            some = mapped[: len(mapped) // 10] if second_look else mapped

            def read(air=air, some=some):
                return sum(len(found.counts) for found in air.predict_batches(some))

            results[name] = rates(read, len(some), args.repeats)
        gigabytes = memory()
        if args.pyro_images:  # imported last: its memory is not ours
            import pyro_air

            guide, _ = pyro_air.trainer(common.TUTORIAL, scenes.images[:64], 64)
            some = mapped[: args.pyro_images]
            pyro_air.counts(guide, some[:1000])
            results["Pyro's guide, one sample"] = rates(
                lambda: pyro_air.counts(guide, some), len(some), args.repeats
            )
    rows = []
    for name, values in results.items():
        accuracy = f"{100 * right[name]:.2f} %" if name in right else "-"
        median = f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"
        rows.append([name, median, accuracy])
    head = ["", "images/s: median (lowest to highest)", "counts right, 10,000 test scenes"]
    print(common.table(head, rows))
    print(f"\n{len(mapped)} images of {shape[1]} x {shape[2]}; at most {gigabytes:.2f} GB (ours)")
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    found = {"images_per_second": results, "count_accuracy": right, "gigabytes": gigabytes}
    common.write(args.out, settings, found)


if __name__ == "__main__":
    main(tyro.cli(Args))
