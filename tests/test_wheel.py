"""What is built to be installed, away from the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_files import SMALL

import airjax

ROOT = Path(airjax.__file__).parent.parent
pytestmark = pytest.mark.slow  # builds


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel installs, without its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files there
    shutil.copytree(ROOT / "airjax", source / "airjax", ignore=lambda *_: ["__pycache__"])
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"airjax-{airjax.__version__}-")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


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
