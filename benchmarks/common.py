"""What the benchmarks share: turns that are timed in pairs, and results that say what made them."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from airjax.config import ModelConfig

TUTORIAL = ModelConfig(
    background="none", embed_channels=0, embed_net=(), encoder_net=(200,), likelihood_sd=0.3
)  # its sizes
REPORTED = ("airjax", "jax", "jaxlib", "numpyro", "numpy", "pyro-ppl", "torch")


def machine() -> dict[str, Any]:
    """Of this machine and what is installed on it: date, processor, cores, versions, commit."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: v for name in REPORTED if (v := _version(name))},
        "commit": _commit(),
    }


def write(path: Path | None, settings: Mapping[str, Any], results: Any) -> None:
    """Writes results as JSON, with the machine and the settings that they were made with."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "settings": dict(settings), "results": results}
    path.write_text(json.dumps(report, indent=2, default=str) + "\n")


def in_turn(
    contenders: Mapping[str, Callable[[], Any]], repeats: int, per_turn: int = 1
) -> dict[str, list[float]]:
    """Seconds that each contender took at each of its turns, over ``per_turn`` (what it does in one
    turn: steps, say). They alternate, so that what disturbs the machine disturbs all; the first
    turn, which compiles, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            if repeat:
                seconds[name].append((time.perf_counter() - begin) / per_turn)
    return seconds


def median_ratio(a: list[float], b: list[float]) -> float:
    """The median of the ratios of paired turns."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def spread(values: Iterable[float], factor: float = 1000, digits: int = 1) -> str:
    """Median, lowest and highest, for a table."""
    scaled = sorted(factor * value for value in values)
    middle, low, high = (
        f"{value:.{digits}f}" for value in (statistics.median(scaled), scaled[0], scaled[-1])
    )
    return f"{middle} ({low} to {high})"


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A table as Markdown has it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
