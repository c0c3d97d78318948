"""What is built to be installed, away from the repository."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_files import SMALL

import airjax

ROOT = Path(airjax.__file__).parent.parent
PARTS = ("airjax", "benchmarks", "docs", "tests")
pytestmark = pytest.mark.slow  # builds


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"  # building leaves files there
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=lambda *_: ["__pycache__", "_build"])
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    subprocess.run([sys.executable, "-m", "build", "-o", folder, source], check=True)
    return folder


@pytest.fixture(scope="module")
def installed(built):
    """A folder with what the wheel installs, without its dependencies."""
    (wheel,) = built.glob("*.whl")
    assert wheel.name.startswith(f"airjax-{airjax.__version__}-")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site"


def test_the_sdist_has_every_file_of_the_repository(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    parts = [path for part in PARTS for path in (ROOT / part).rglob("*.*")]
    for path in [*ROOT.glob("*.*"), *parts]:
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts):
            assert str(path.relative_to(ROOT)) in names or path.name.startswith("."), path


def test_the_wheel_has_every_file_of_the_package(installed):
    def files(folder):
        return {str(path.relative_to(folder)) for path in (folder / "airjax").rglob("*.*")
                if path.is_file() and path.suffix != ".pyc"}  # fmt: skip

    assert files(installed) == files(ROOT)
    assert "airjax/py.typed" in files(installed)


def test_it_trains_and_predicts_there(installed, pictures, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}

    def python(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)], env=environment, cwd=tmp_path, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    assert python("-c", "import airjax; print(airjax.__file__)").startswith(str(installed))
    python("-m", "airjax", "train", pictures, "--out", "run", *SMALL.split())
    python("-m", "airjax", "predict", "run", pictures, "--out", "found")
    assert (tmp_path / "found/report.html").read_text().count("data:image/") == 12
    assert (tmp_path / "found/counts.csv").read_text().count("\n") == 13
