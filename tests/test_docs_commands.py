"""The documentation's command lines, benchmarks and snippets are run, in a folder that has what
they name. Trainings have two steps, data sets few scenes of few objects, and pictures few crops.
(test_docs.py has what takes no time.)"""

import dataclasses
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from test_docs import BLOCK, LINES, ROOT, TEXTS
from test_stream import write_records

import airjax.data
from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data import crops
from airjax.training.session import Session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning"),  # trackpy's
]
SCENES, FEW = 64, 12  # of a data set, and crops; of those of a benchmark
SIDE = 64  # of a picture
COPIES = ("OTHERS", "SCENES", "NEWPLACE", "pictures", "cells")  # of PICTURES
# what needs several processes, devices or a server, and the test that runs it
ELSEWHERE = {
    "--coordinator": "test_hosts.py::test_two_and_four_processes_train_as_one",
    "--hosts auto": "test_hosts.py::test_a_run_survives_signals_and_kills_with_any_number",
    "s3://": "test_ray.py::test_a_bucket",
    "--engine ray": "test_ray.py::test_what_stopped_goes_on_to_the_bytes_of_one_process",
    "--devices 4": "test_devices.py::test_devices_change_a_training_by_rounding_alone",
    "demo FOLDER/blocks_own_0": "test_demo_solids.py::test_the_page_reads_again_what_is_moved",
    "demo FOLDER": "test_demo_corrections.py::test_a_run_is_chosen_and_corrections_are_kept",
    "demo": "test_demo_page.py::test_what_is_drawn_is_read",
}
HERE = sorted({line for _, line in LINES if not any(part in line for part in ELSEWHERE)})
# benchmarks that have tests of their own, and the flags that make the others tiny
TESTED = {
    "paper_codes": "test_paper_codes.py::test_the_whole_benchmark",
    "paper_counts": "test_paper_counts.py::test_a_training_is_scored_and_not_run_again",
    "paper_strokes": "test_omniglot.py::test_the_benchmark_trains_once_and_draws",
    "paper_three_d": "test_paper_three_d.py::test_the_command_prints_its_tables",
    "scale": "test_scale.py::test_speedups_are_ideal_without_costs_and_end_with_them",
    "ready_models": "test_ready.py::test_the_command_makes_a_model_that_reads_pictures",
}
# these time what other tests run, and compile for minutes; they are not run here
TIMES = {"gradient_variance", "start", "step_time", "streaming"}
BENCHMARKS = {
    "calibration": "",
    "colloids": "",
    "compare_runs": "",
    "errors": "--right 1",
    "from_ready": "--sets cells --fresh 1 --begun 1 --every 100",
    "gpu": "--batches 4 --steps 1 --repeats 1 --train-steps 2 --every 1 --images 64 --side 64 "
    "--megabytes 1",
    "pictures": "--flags '--background learned --likelihood-sd learned --crop 0'",
    "predict": "--images 64 --pyro-images 0 --repeats 1",
    "real_pictures": "--sets cells --no-tune",
    "scoreboard": "--seeds 1",
    "time_to_accuracy": "--seeds 0 --steps 2 --every 1 --pyro-seconds 0",
}
# each script once, with the longest of its lines
WRITTEN = dict(
    sorted(
        re.findall(r"python benchmarks/(\w+)\.py([^\n`#]*)", "\n".join(TEXTS.values())),
        key=lambda found: (found[0], len(found[1].strip())),
    )
)
NOTEBOOK = "format_name: myst"  # executed when the site is built
TINY = {
    "AIR(max_objects=3": "AIR(max_objects=3, steps=2",
    "range(8)": "range(2)",
    'out="runs/cells")': 'out="runs/new", config=few_steps)',
}


def test_what_is_run_elsewhere_has_a_test():
    for test in (*ELSEWHERE.values(), *TESTED.values()):
        file, name = test.split("::")
        assert f"def {name}" in (ROOT / "tests" / file).read_text()


def draw(pictures: Path, labels: Path) -> None:
    """Pictures of one to three discs, and their label images."""
    random = np.random.default_rng(0)
    rows, columns = np.indices((SIDE, SIDE))
    for path in (pictures, labels):
        path.mkdir()
    for i in range(12):
        image, label = random.normal(30, 3, (SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
        for n, place in enumerate(random.permutation(9)[: 1 + i % 3], 1):
            y, x = 20 * np.array(divmod(place, 3)) + 12
            disc = (rows - y) ** 2 + (columns - x) ** 2 < 6**2
            image[disc], label[disc] = 200, n
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(pictures / f"{i}.png")
        Image.fromarray(label).save(labels / f"{i}.png")


def write_coco(files: list[Path], path: Path) -> None:
    """A box in each picture."""
    images = [{"id": i, "file_name": file.name} for i, file in enumerate(files)]
    boxes = [{"id": i, "image_id": i, "bbox": [10, 10, 16, 16]} for i in range(len(files))]
    path.write_text(json.dumps({"images": images, "annotations": boxes}))


def write_weights(path: Path) -> None:
    """Random weights with the names of Pyro's example, for images of 50 x 50."""
    random = np.random.default_rng(0)
    with np.load(ROOT / "tests/data/pyro_air_small.npz") as small:
        names = [name for name in small.files if name.startswith("weight/")]
        arrays = {name.removeprefix("weight/"): small[name] for name in names}
    for name in ("rnn.weight_ih", "bl_rnn.weight_ih"):
        rows, columns = arrays[name].shape
        arrays[name] = random.normal(0, 0.01, (rows, columns - 16**2 + 50**2)).astype("f4")
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with what the commands name, while there are few scenes and crops."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        for name, known in airjax.data.DATASETS.items():
            counts = known.scenes.counts[:3]
            few = dataclasses.replace(known.scenes, num_scenes=SCENES, counts=counts)
            patch.setitem(airjax.data.DATASETS, name, known._replace(scenes=few))
        patch.setattr(airjax.data, "NUM_TEST", SCENES)
        for part in crops.CROPS:
            patch.setitem(crops.CROPS, part, SCENES)
        patch.chdir(folder)
        furnish()
        yield folder


def furnish() -> None:
    """Makes the files, in the current folder."""
    draw(Path("PICTURES"), Path("labels"))
    for name in COPIES:
        shutil.copytree("PICTURES", name)
    shutil.copytree("labels", "corrected")
    files = sorted(Path("PICTURES").iterdir())
    shutil.copy(files[0], "picture.png")
    Path("FRAMES").mkdir()
    for i in range(12):  # of objects at rest
        shutil.copy("PICTURES/2.png", f"FRAMES/{i}.png")
    Path("SHARDS").mkdir()
    write_records(Path("SHARDS/a.array_record"), [file.read_bytes() for file in files])
    rows = [f"{i}.png,{1 + i % 3}" for i in range(len(files))]
    Path("counts.csv").write_text("\n".join(["file,count", *rows]))
    write_coco(files, Path("annotations.json"))
    images = np.random.default_rng(0).integers(0, 256, (40, 50, 50)).astype(np.uint8)
    np.save("scenes.npy", images)
    zarr.save_array("scenes.zarr", images)
    np.savez("scenes.npz", images=images, counts=np.arange(40, dtype=np.int32) % 3)
    write_weights(Path("state_dict.npz"))
    for line in (
        "data moving-mnist videos.npz --num-scenes 2 --part test",
        "train multi-mnist --out runs/digits --steps 2",
        "import-pyro state_dict.npz run",
        "train PICTURES --out runs/cells --steps 2",
        "predict blobs PICTURES --out found --format csv masks",
        "track blobs FRAMES --out tracked/video",
    ):
        main(line.split())
    for name in ("score", "count", "FOLDER/multi-mnist-0", "FOLDER/multi-mnist-1"):
        shutil.copytree("runs/digits", name)
    furnish_sets(Path("FOLDER/cells"))
    shutil.copytree("tracked/video", "tracked/colloids")
    shutil.copytree("runs/cells", "RUN")
    Session.begin("PICTURES", Config(train=TrainConfig("PICTURES", steps=2)), out="runs/mine")


def furnish_sets(folder: Path) -> None:
    """A set of pictures that were counted by hand, for the benchmarks."""
    folder.mkdir()
    shutil.copytree("PICTURES", folder / "images")
    shutil.copy("counts.csv", folder)
    (folder / "objects.csv").write_text("file,x0,y0,x1,y1\n0.png,6,6,18,18\n")


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """A copy of this folder, where the commands are run."""
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")


def tiny(line: str) -> str:
    """The same command with few steps or scenes, and the name of a run for ``runs/...``."""
    command = line.split()[0]
    if "--resume" in line:
        line = line.replace("runs/...", "runs/mine")
    elif command == "train":
        line += " --steps 2"
    if command == "data":
        line += " --num-scenes 20"
    if "--seeds" in line:
        line += " --seeds 2"
    of_scenes = "--data" in line or "videos.npz" in line
    if of_scenes:
        line = line.replace("RUN", "runs/digits").replace("runs/...", "runs/digits")
    return line.replace("runs/...", "runs/cells")


@pytest.mark.parametrize("line", HERE)
def test_a_command_line(line, place):
    newest = "cells"
    if "--resume" in line:
        newest = "mine"
    elif "--data" in line or "videos.npz" in line:
        newest = "digits"
    os.utime(f"runs/{newest}/config.json")
    if line.startswith("evaluate runs/.../seed_3"):
        shutil.copytree("runs/cells", "runs/cells/seed_3")
    for new in re.findall(r"--out (\S+)|^data \S+ (\S+)|^import-pyro \S+ (\S+)", line):
        remove(Path("".join(new)))
    try:
        main(shlex.split(tiny(line)))
    except SystemExit as end:
        assert not end.code  # the parser's, after help or a script


@pytest.mark.parametrize("name", sorted(WRITTEN.keys() - TESTED.keys() - TIMES))
def test_a_benchmark(name, place, monkeypatch):
    """Its runs of `airjax` are in this process, where data sets are small."""
    line = WRITTEN[name].replace("RUN", "runs/digits") + " " + BENCHMARKS[name]
    run, make = subprocess.run, airjax.data.make

    def here(command, **options):
        arguments = command[3:] if command[1:3] == ["-m", "airjax"] else command[1:]
        if arguments[0] not in ("train", "predict") or "--help" in arguments:
            return run(command, **options)
        main([*arguments, "--steps", "2"] if arguments[0] == "train" else arguments)
        return subprocess.CompletedProcess(command, 0)

    def few(name, part, config, *rest):
        config = dataclasses.replace(config, num_scenes=min(config.num_scenes, FEW))
        return make(name, part, config, *rest)

    monkeypatch.setattr(subprocess, "run", here)
    monkeypatch.setattr(airjax.data, "make", few)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = ROOT / "benchmarks" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *shlex.split(line)])
    known = set(sys.modules)
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        for module in set(sys.modules) - known:
            if (ROOT / "benchmarks" / f"{module}.py").exists():
                del sys.modules[module]


def remove(path: Path) -> None:
    """Removes a file or a folder of the same name: the line makes a new one."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def snippets(text: str) -> list[str]:
    """The blocks of Python of a page that is no notebook."""
    blocks = [] if NOTEBOOK in text else [block[0] for block in BLOCK.finditer(text)]
    fenced = [textwrap.dedent(re.sub(r"^```.*\n?", "", b, flags=re.MULTILINE)) for b in blocks]
    return [code for code in fenced if re.match(r"(from|import|def) ", code)]


SNIPPETS = {page: found for page, text in TEXTS.items() if (found := snippets(text))}


@pytest.mark.parametrize("page", SNIPPETS)
def test_snippets(page, place):
    """Those of a page have the same names."""
    files = [str(file) for file in sorted(Path("PICTURES").iterdir())]
    names = {
        "images": np.load("scenes.npy"), "others": np.load("scenes.npy")[:10],
        "files": files, "sample_of_files": files, "all_files": files,
        "few_steps": Config(train=TrainConfig("PICTURES", steps=2)),
    }  # fmt: skip
    if "torch" in "".join(SNIPPETS[page]):
        pytest.importorskip("torch", reason="needs torch").save({}, "air.pt")
    for code in SNIPPETS[page]:
        for written, run in TINY.items():
            code = code.replace(written, run)
        exec(compile(code, page, "exec"), names)
