"""The flags that ``airjax predict`` and ``airjax track`` share: how pictures are read, and which
objects are in the results."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from airjax.checks import a_seed, at_least_1
from airjax.cli.runs import SecondLook
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.air import AIR
    from airjax.prediction.predictor import Kept
    from airjax.training.runs import Run


@dataclass(frozen=True)
class ReadingFlags:
    """How objects are found, and which are in the results.

    Attributes:
        threshold: Leave out objects with a lower score.
        min_size: Leave out objects whose larger side is smaller, in pixels.
        max_size: Leave out objects whose larger side is larger, in pixels.
        exclude_edges: Leave out objects that touch the border of the picture.
        strict: Stop at a picture that cannot be read, instead of leaving it out.
        num_paths: K, the paths of the guide that counts are averaged over.
        second_look: Pictures in which it is checked whether one of the objects found is two, by how
            well the model explains the picture with each count: the doubtful ones, of which the
            objects leave 80 nats or more unexplained (none where objects hide others), all, or
            none. In pictures of any size, each object is compared with two anyway.
        seed: Of the guide's samples.
    """

    threshold: float = 0.0
    min_size: float = 0.0
    max_size: float = math.inf
    exclude_edges: bool = False
    strict: bool = False
    num_paths: int = 5
    second_look: SecondLook = "doubtful"
    seed: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the run's)")] = (
        None
    )

    def check(self) -> None:
        """Checks the values.

        Raises:
            InputError: if one breaks its rule.
        """
        at_least_1(num_paths=self.num_paths)
        if not 0 <= self.threshold <= 1:
            raise InputError("threshold", "must be 0 to 1", self.threshold)
        if not self.min_size >= 0:
            raise InputError("min_size", "must be at least 0", self.min_size)
        if not self.max_size >= self.min_size:
            rule = f"must be at least --min-size, {self.min_size}"
            raise InputError("max_size", rule, self.max_size)
        if self.seed is not None:
            a_seed(self.seed)

    def kept(self) -> "Kept":
        """Which objects are in the results."""
        from airjax.prediction.predictor import Kept  # slow to import

        return Kept(self.threshold, self.min_size, self.max_size, self.exclude_edges)

    def air_of(self, run: "Run") -> "tuple[AIR, dict[str, Any]]":
        """The model of a run, and the flags that the results depend on."""
        from airjax.cli.predictions import air_of

        seed = run.config.train.seed if self.seed is None else self.seed
        air, flags = air_of(run, self.num_paths, self.second_look, seed)
        return air, asdict(self.kept()) | flags


def as_text(flags: dict[str, Any]) -> dict[str, str]:
    """Flags and their values."""
    switch = {True: "yes", False: "no"}
    return {
        f"--{name.replace('_', '-')}": switch[value] if isinstance(value, bool) else str(value)
        for name, value in flags.items()
    }


def of_run(run: "Run") -> dict[str, str]:
    """The settings of a run that a reader of the results asks for."""
    model, train = run.config.model, run.config.train
    height, width = model.image_size
    return {
        "folder": str(run.path.resolve()),
        "trained on": train.data,
        "steps": "not known" if train.steps is None else f"{train.steps:,}",
        "seed": str(run.attempt_config().train.seed),
        "guide": model.guide,
        "images": f"{height} x {width} pixels" + (", in colour" if model.channels == 3 else ""),
        "most objects in an image": str(model.model_steps),
        "background": model.background,
    }
