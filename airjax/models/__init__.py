"""Models that are ready to use before any training: runs without their data, in this package.

``benchmarks/ready_models.py`` makes them. In Python:

    air = AIR.load(folder_of("blobs"))
    objects = air.find("picture.png")
"""

from pathlib import Path

READY = ("blobs", "digits")


def folder_of(name: str) -> Path:
    """The folder of a ready model: a finished run.

    Args:
        name: one of ``READY``.
    """
    return Path(__file__).parent / name


def is_ready(folder: Path) -> bool:
    """Whether a folder is that of a ready model."""
    return folder.parent == Path(__file__).parent
