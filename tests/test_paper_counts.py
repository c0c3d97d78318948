"""The benchmark of counts that were never seen, with a training of two steps."""

import json
from pathlib import Path

import numpy as np
import pytest

import airjax.data
from airjax.data.composer import Pool

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FAINT = Pool(np.full((2, 28, 28), 60, np.uint8), np.zeros(2, np.int32))  # four may overlap


@pytest.fixture
def paper_counts(monkeypatch, tmp_path):
    """The module, on scenes of squares."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("AIRJAX_CACHE_DIR", str(tmp_path / "cache"))
    known = airjax.data.DATASETS["multi-mnist"]._replace(pool=lambda part, data_dir: FAINT)
    monkeypatch.setitem(airjax.data.DATASETS, "multi-mnist", known)
    import paper_counts

    monkeypatch.setitem(paper_counts.SETTINGS, "tiny", paper_counts.Setting((0, 1), (0, 4), 30))
    return paper_counts


def test_a_training_is_scored_and_not_run_again(paper_counts, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    args = paper_counts.Args(
        ("tiny",), ("difference",), seeds=1, steps=2, train_scenes=64, scenes=5, out=out
    )
    paper_counts.main(args)
    row = json.loads((out / "tiny-difference-0.json").read_text())["results"]
    assert set(row["right"]["one pass"]) == set(row["right"]["second look"]) == {"0", "4"}
    assert all(0 <= v <= 100 for look in row["right"].values() for v in look.values())
    assert len(row["boxes"]) == paper_counts.DRAWN
    monkeypatch.setattr(paper_counts, "trained", None)
    paper_counts.main(args)
    assert (out / "paper_counts.png").stat().st_size > 0
    assert "| difference | second look | 1 |" in capsys.readouterr().out


def test_a_table_has_the_mean_and_the_worst_seed(paper_counts):
    def row(four):
        return {"right": {look: {"0": 100.0, "4": four} for look in ("one pass", "any size")}}

    text = paper_counts.table(paper_counts.SETTINGS["tiny"], {"attend": [row(10.0), row(30.0)]})
    assert "| 0 | 4, never seen |" in text
    assert "| attend | one pass | 2 | 100.0 (100.0 to 100.0) | 20.0 (10.0 to 30.0) |" in text
