"""Trains many seeds with the default settings, through the command line, and tabulates how each
came out: ``python benchmarks/seeds.py multi-mnist digits --seeds 20 --out FOLDER``.

Seeds are trained in turn; those whose run is in FOLDER and finished are not trained again, an
interrupted one continues. Each is read as by default, and with a second look. Writes
FOLDER/<data>.json, and prints a table for the docs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import airjax

PASSES = {"digits": 0.95, "multi-mnist": 0.98}  # held-out count accuracy of a run that worked
AIRJAX = str(Path(sys.executable).with_name("airjax"))


def trained(data: str, seed: int, folder: Path, flags: list[str]) -> dict:
    """The report of this seed's run, and how long it trained."""
    run = folder / f"{data}-{seed}"
    if not (run / "evaluation.json").exists():
        start = ["--data", data, "--seed", str(seed), "--out", str(run), *flags]
        arguments = ["--resume", str(run)] if (run / "config.json").exists() else start
        with open(folder / f"{data}-{seed}.log", "a") as log:
            subprocess.run([AIRJAX, "train", *arguments], stdout=log, stderr=log, check=True)
    report = json.loads((run / "evaluation.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    record = run / "restarts.json"
    again = folder / f"{data}-{seed}-second-look.json"
    if not again.exists():
        line = [AIRJAX, "evaluate", str(run), "--second-look", "--json"]
        again.write_bytes(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)
    return report | {
        "restarts": len(json.loads(record.read_text())) if record.exists() else 0,
        "seed": seed,
        "second_look": json.loads(again.read_text()),
        "steps": rows[-1]["step"],
        "skipped_steps": rows[-1]["skipped_steps"],
    }


def table(data: str, reports: list[dict]) -> str:
    """A table for the docs, a seed a row, and the totals."""
    lines = [
        f"| `{data}`, seed | count accuracy | AP at IoU 0.5 | both, with a second look | ELBO "
        "| restarts | skipped steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in reports:
        lines.append(
            f"| {r['seed']} | {100 * r['count_accuracy']:.2f} % | {r['tight_boxes']['ap50']:.3f} | "
            f"{100 * r['second_look']['count_accuracy']:.2f} %, "
            f"{r['second_look']['tight_boxes']['ap50']:.3f} | "
            f"{r['elbo']:.1f} | {r['restarts']} | {r['skipped_steps']} |"
        )
    accuracies = 100 * np.array([r["count_accuracy"] for r in reports])
    again = 100 * np.array([r["second_look"]["count_accuracy"] for r in reports])
    passed = sum(accuracies >= 100 * PASSES[data])
    lines.append(
        f"\n{passed} of {len(reports)} seeds reach {100 * PASSES[data]:.0f} %; mean "
        f"{accuracies.mean():.2f} %, lowest {accuracies.min():.2f} %, highest "
        f"{accuracies.max():.2f} %; restarts: {sum(r['restarts'] for r in reports)}. With a second "
        f"look: mean {again.mean():.2f} %, lowest {again.min():.2f} %, highest {again.max():.2f} %."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", choices=list(PASSES))
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--out", type=Path, required=True)
    known, flags = parser.parse_known_args()  # all else goes to airjax train
    known.out.mkdir(parents=True, exist_ok=True)
    for data in known.data:
        seeds = range(known.first, known.first + known.seeds)
        reports = [trained(data, seed, known.out, flags) for seed in seeds]
        result = {"airjax": airjax.__version__, "flags": flags, "seeds": reports}
        (known.out / f"{data}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(table(data, reports), flush=True)


if __name__ == "__main__":
    main()
