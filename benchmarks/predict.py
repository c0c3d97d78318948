"""Images a second and memory of ``AIR.predict_batches`` on a memory map of many images:
``python benchmarks/predict.py RUN [--images 100000] [--repeats 3]``, RUN trained on multi-mnist.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from airjax import AIR, data

TOLD = 10_000  # scenes of the test set, over and over


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    air, scenes = AIR.load(arguments.run), data.load("multi-mnist", "test")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        shape = (arguments.images, *scenes.image_shape)
        images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        for start in range(0, len(images), len(scenes)):
            part = images[start : start + len(scenes)]
            part[:] = scenes.images[: len(part)]
        del images
        mapped = np.load(path, mmap_mode="r")
        for _ in air.predict_batches(mapped[:1000]):  # compiles
            pass
        rates = []
        for _ in range(arguments.repeats):
            begin = time.perf_counter()
            counts = np.concatenate([s.counts for s in air.predict_batches(mapped)])
            rates.append(len(mapped) / (time.perf_counter() - begin))
    right = np.mean(counts[: len(scenes)] == scenes.counts[: len(counts)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(mapped)} images of {shape[1]} x {shape[2]}, K = {air.n_samples} paths, "
          f"{arguments.repeats} times: median {statistics.median(rates):.0f} images/s "
          f"({min(rates):.0f} to {max(rates):.0f}), at most {memory:.2f} GB, "
          f"{100 * right:.2f} % of counts right")  # fmt: skip


if __name__ == "__main__":
    main()
