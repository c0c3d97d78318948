"""AIR as one object: its two programs with their weights."""

from dataclasses import dataclass
from pathlib import Path

from airjax.checkpoint import load_model, save_model
from airjax.guide import Guide
from airjax.model import Model


@dataclass(frozen=True)
class AIR:
    """The programs of a model, each with its own weights.

    Attributes:
        model: NumPyro program of images ``[N, H, W]``, see `airjax.model.Model`.
        guide: NumPyro program of the same images, see `airjax.guide.Guide`.
    """

    model: Model
    guide: Guide

    def save(self, folder: str | Path) -> None:
        """Writes the weights and settings to a new folder; see `airjax.checkpoint.save_model`."""
        save_model(Path(folder), self.model, self.guide)

    @classmethod
    def load(cls, folder: str | Path) -> "AIR":
        """Reads what `save` wrote; see `airjax.checkpoint.load_model`."""
        return cls(*load_model(Path(folder)))
