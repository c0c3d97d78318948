"""Models that are ready to use: how they are named, how pictures are read with them, and trainings
that begin with their networks."""

import csv
import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import TINY, mistake
from PIL import Image
from test_session import InterruptedAfter, learned

from airjax.cli.main import main
from airjax.cli.runs import opened
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.ready import Asked, for_ready_model
from airjax.errors import InputError
from airjax.models import READY, folder_of, is_ready
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training import loop, session
from airjax.training.checkpoint import load_model
from airjax.training.runs import Run
from airjax.training.start import STEPS, begun_with
from airjax.training.trainer import Trainer

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
LIMIT = 3 * 2**20  # bytes of weights
DISCS = PictureConfig(crop=48, anew=True)


def airjax(line: str) -> None:
    """A command line."""
    main(line.split())


def discs(side: int, number: int = 9, colours: int = 0) -> np.ndarray:
    """A picture with ``number`` discs of ``side`` pixels in rows of three."""
    y, x = np.mgrid[: 4 * side, : 4 * side]
    picture = np.zeros((4 * side, 4 * side))
    for i in range(number):
        row, column = (1 + i // 3) * side * 1.1, (1 + i % 3) * side * 1.1
        picture = np.maximum(picture, np.hypot(y - row, x - column) < side / 2)
    grey = np.round(200 * picture + 20).astype(np.uint8)
    return grey if not colours else np.stack([grey, np.roll(grey, side // 2, 0), grey // 2], -1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with pictures of discs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for i in range(6):
        Image.fromarray(discs(30, 4 + i)).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("name", READY)
def test_each_is_a_small_finished_run_without_traces_of_a_machine(name):
    run = opened(Path(name))
    assert run.is_finished and run.collapsed is None and run.usual.explained is not None
    assert run.config.pictures.anew and is_ready(run.path) and not is_ready(run.path.parent)
    assert run.config.train.data == f"composed {name}"
    files = [path for path in folder_of(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT
    for path in files:
        if path.suffix == ".json":
            assert "/tmp" not in path.read_text() and "/home" not in path.read_text(), path


def test_a_run_of_the_same_name_goes_first_and_both_cases_are_reported(here, capsys):
    (here / "blobs").mkdir()
    assert is_ready(opened(Path("blobs")).path)
    assert "what has this name in this directory is not a run" in capsys.readouterr().err
    Run.create(Config(), here / "digits")
    assert opened(Path("digits")).path == Path("digits")
    assert "the run in this directory, not the ready model" in capsys.readouterr().err


def test_mistakes_are_reported_in_one_line(here, capsys):
    line = mistake("predict blob pictures", capsys)
    assert "RUN must be the folder of a run" in line and "perhaps you meant blobs" in line
    assert "--object-size must be a number" in mistake(
        "predict blobs pictures --object-size x", capsys
    )
    assert "--channel must be grey" in mistake("predict blobs pictures --channel colour", capsys)
    run = Run.create(Config(TrainConfig(data="digits"), TINY), here / "run")
    run.save(*untrained(TINY, 0))
    line = mistake("predict run pictures --invert yes", capsys)
    assert "--invert must be left out for a run" in line
    assert "--from must be the folder" in mistake("train pictures --from none", capsys)
    line = mistake("train pictures --from blobs --crop 48 --window-size 9", capsys)
    assert "--from must be a run whose networks fit; what differs is window size" in line
    line = mistake("train pictures --from run --crop 48 --out begun", capsys)
    assert "--from must be a run whose networks fit; what differs is guide: window there" in line
    assert not (here / "begun").exists() and not (here / "found").exists()


@pytest.mark.parametrize("side", [9, 30])
def test_pictures_are_scaled_to_the_objects_of_the_model(tmp_path, side):
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for i, file in enumerate(files):
        Image.fromarray(discs(side, 4 + i)).save(file)
    seen = for_ready_model(files, DISCS, 1)
    assert seen.pictures.ratio * side == pytest.approx(16, rel=0.15)
    assert seen.pictures.is_decided and not seen.pictures.anew and seen.pictures.crop == 48
    assert {"--object-size", "--scale", "--normalise", "--invert"} <= {
        each.flag for each in seen.decisions
    }
    asked = for_ready_model(files, DISCS, 1, asked=Asked(2.0 * side))
    assert asked.pictures.ratio == pytest.approx(8 / side, rel=0.01)
    given = dataclasses.replace(DISCS, scale=0.5)
    assert for_ready_model(files, given, 1).pictures.scale == 0.5


def test_of_several_colours_one_channel_is_read(tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for i, file in enumerate(files):
        Image.fromarray(discs(20, 4 + i, colours=3)).save(file)
    assert for_ready_model(files, DISCS, 3).pictures.channel == "colour"
    assert for_ready_model(files, DISCS, 1).pictures.channel == "max"


def test_settings_of_a_training_that_begins_with_networks():
    start = ModelConfig(guide="attend", window_size=18, encoder_latent_size=14, background="none")
    asked = Config(TrainConfig(data="x"))
    decided = dataclasses.replace(
        asked, model=dataclasses.replace(start, window_size=12, encoder_latent_size=9)
    )
    config, decisions = begun_with(start, asked, decided, [])
    assert config.model.window_size == 18 and config.model.encoder_latent_size == 14
    assert config.train.steps == STEPS and "--steps" in {each.flag for each in decisions}
    config, _ = begun_with(start, Config(TrainConfig(data="x", steps=7)), decided, [])
    assert config.train.steps is None  # what is given has been decided elsewhere
    in_colour = dataclasses.replace(decided, model=dataclasses.replace(decided.model, channels=3))
    with pytest.raises(InputError, match="channels: 1 there, 3 here"):
        begun_with(start, asked, in_colour, [])
    with pytest.raises(InputError, match="encoder latent size: 14 there, 50 here"):
        begun_with(start, asked, dataclasses.replace(decided, model=asked.model), [],
                   ["encoder_latent_size"])  # fmt: skip


def test_a_training_begins_with_the_networks_that_it_is_given():
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 6)).astype(np.uint8)
    config = Config(TrainConfig(steps=10, batch_size=2, seed=1), TINY)
    start = untrained(TINY, 5)
    trainer = Trainer(config, images, start=start)
    model, guide = trainer.programs(trainer.init())
    for made, wanted in ((model.decoder, start[0].decoder), (guide.networks, start[1].networks)):
        leaves = zip(jax.tree.leaves(made), jax.tree.leaves(wanted), strict=True)
        assert all(np.allclose(a, b, atol=1e-6) for a, b in leaves)
    fresh = Trainer(config, images)
    other, _ = fresh.programs(fresh.init())
    assert not np.array_equal(
        other.decoder.mlp.layers[0].weight, model.decoder.mlp.layers[0].weight
    )


@pytest.mark.parametrize("name", READY)
def test_weights_in_half_precision_are_read_in_single_precision(name):
    model, guide = load_model(folder_of(name) / "model")
    assert model.decoder.mlp.layers[0].weight.dtype == np.float32
    assert guide.config.guide == "attend" and model.config.sums_on_black


@pytest.fixture
def ready_models(monkeypatch):
    """The command that makes ready models."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import ready_models

    return ready_models


def counted(path: Path) -> dict[str, int]:
    """The column ``count`` of a table, by file."""
    with open(path) as file:
        return {row["file"]: int(row["count"]) for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("name", READY)
def test_ready_models_count_pictures_that_they_were_not_trained_on(
    ready_models, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    pictures = Path("held_out")
    ready_models.main(ready_models.Args(name, pictures, seed=5, number=12, only_pictures=True))
    airjax(f"predict {name} {pictures}/images --out found")
    printed = capsys.readouterr().out
    assert "--object-size" in printed
    if name == "blobs":  # digits are not crowded
        assert "in simulated pictures as crowded, " in printed
        assert "missed when simulated" in Path("found", "report.html").read_text()
    true, found = counted(pictures / "counts.csv"), counted(Path("found", "counts.csv"))
    errors = [abs(found[file] - count) for file, count in true.items()]
    # blobs overlap, digits only touch
    assert sum(errors) <= {"blobs": 0.2, "digits": 0.05}[name] * sum(true.values())


@pytest.mark.slow
def test_the_command_makes_a_model_that_reads_pictures(ready_models, here, monkeypatch, capsys):
    monkeypatch.setattr(session, "NUM_PATHS", 1)  # takes less time
    ready_models.main(ready_models.Args("blobs", here / "made", number=12, steps=30))
    with pytest.raises(InputError, match="out must be a new folder"):
        ready_models.main(ready_models.Args("blobs", here / "made", number=12, steps=30))
    airjax("predict made pictures --out found --invert no --object-size 20-40")
    assert len(counted(here / "found" / "counts.csv")) == 6
    train = "train pictures --from made --steps 4 --crop 48 --progress-every 1 --save-every 2"
    airjax(f"{train} --out run")
    assert "as before" in capsys.readouterr().out
    run = Run.open(here / "run")
    start = run.start
    assert run.is_finished and start is not None
    assert run.config.model.window_size == start[0].config.window_size
    with monkeypatch.context() as patch:
        patch.setattr(InterruptedAfter, "left", 2, raising=False)
        patch.setattr(loop, "Interrupt", InterruptedAfter)
        with pytest.raises(SystemExit):
            airjax(f"{train} --out again")
    assert not Run.open(here / "again").is_finished
    airjax("train --resume again")
    assert learned(here / "again") == learned(here / "run")
    assert "must be left out where a run is resumed" in mistake(
        "train --resume run --from made", capsys
    )
