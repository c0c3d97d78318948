"""Seconds from the start of ``airjax train`` to its first step, with empty caches of traces and
compiled programs and with full ones; and of ``import airjax`` and ``airjax --help``.

    python benchmarks/start.py [--out FILE.json]

Scenes are in the cache already. A run is started again and again, and stopped after 100 steps: the
time to its first line of progress, less that of the 100 steps, which the run reports.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import common
import tyro

from airjax import data
from airjax.data.cache import cache_dir

AIRJAX = str(Path(sys.executable).with_name("airjax"))
STEPS = 100


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        repeats: starts of each kind.
        out: JSON file for the results.
    """

    repeats: int = 3
    out: Path | None = None


def first_step(folder: Path, number: int) -> tuple[float, float]:
    """Seconds from the start of a run to its first step, and those of compilation among them."""
    run = folder / f"run-{number}"
    line = f"train --data multi-mnist --progress-every {STEPS} --out {run}"
    begin = time.perf_counter()
    with subprocess.Popen(
        [AIRJAX, *line.split()], stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step "):
            pass
        took = time.perf_counter() - begin
        process.terminate()
        process.stdout.read()
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    return took - row["seconds"], row["compile_seconds"]


def main(args: Args) -> None:
    """Measures, prints and writes."""
    data.load("multi-mnist", "train"), data.load("multi-mnist", "test")
    seconds: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        seconds.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = folder / "kept"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept / "xla")
        os.environ["AIRJAX_TRACES"] = str(kept / "traces")
        for repeat in range(args.repeats):
            shutil.rmtree(kept, ignore_errors=True)
            for kind in ("first", "second"):
                took, compiling = first_step(folder, 2 * repeat + (kind == "second"))
                note(f"{kind} start, to the first step", took)
                note(f"{kind} start, compilation of the step", compiling)
    for name, command in (
        ("import airjax", [sys.executable, "-c", "import airjax"]),
        ("airjax --help", [AIRJAX, "--help"]),
        ("airjax train --help", [AIRJAX, "train", "--help"]),
    ):
        for _ in range(args.repeats):
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            note(name, time.perf_counter() - begin)
    rows = [[name, common.spread(values, 1)] for name, values in seconds.items()]
    print(common.table(["", "seconds: median (lowest to highest)"], rows))
    settings = {k: v for k, v in vars(args).items() if k != "out"} | {"cache": cache_dir()}
    common.write(args.out, settings, seconds)


if __name__ == "__main__":
    main(tyro.cli(Args))
