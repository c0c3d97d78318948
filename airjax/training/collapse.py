"""Detects, without labels, that a training has collapsed."""

import math
from collections.abc import Callable

from airjax.config import Config
from airjax.inference.metrics import Row

JUDGED = 0.25  # share of the steps before which nothing is called a collapse
PATIENCE = 2  # evaluations in a row that must agree
EMPTY = 0.01  # largest share of images with an empty object
TOO_LARGE = 0.05  # largest share of images with a window much larger than an object


def collapse(rows: list[Row], config: Config, draft: int = 0) -> str | None:
    """What is wrong with a training, or None.

    A chunk in which no step was finite is a collapse at once. After a quarter of the steps, and
    after the exploration's fall, each of ``_SYMPTOMS`` is one if it holds at two evaluations in a
    row.

    Args:
        rows: the metrics so far, see `airjax.training.trainer.Trainer.run`.
        config: of the run.
        draft: steps after which the training begins anew; both parts are judged.
    """
    before, now = rows[-2:] if len(rows) > 1 else [{"step": 0, "skipped_steps": 0}, *rows]
    if now["skipped_steps"] - before["skipped_steps"] == now["step"] - before["step"]:
        return f"no step since {before['step']} had a finite gradient"
    anew = now["step"] > draft
    begin, steps = (draft, config.train.num_steps - draft) if anew else (0, draft)
    first = begin + max(JUDGED * steps, config.estimator.exploration_steps)
    evaluated = [row for row in rows if "test_elbo" in row and row["step"] >= first][-PATIENCE:]
    if len(evaluated) < PATIENCE or now is not evaluated[-1]:
        return None
    steps = config.model.model_steps
    # pieces of objects at the border of crops, and objects of several sizes, are no bad luck
    symptoms = _SYMPTOMS if config.pictures.crop else _SYMPTOMS | _OF_WHOLE_IMAGES
    for symptom, holds in symptoms.items():
        if all(holds(row, steps) for row in evaluated):
            return symptom.format(**now, max=steps)
    return None


_SYMPTOMS: dict[str, Callable[[Row, int], bool]] = {
    "the ELBO is not finite": lambda row, _: not math.isfinite(row["test_elbo"]),
    "it counts no object in any held-out image": lambda row, _: row["test_mean_count"] == 0,
    # with T = 1 this may be right
    "it counts {max} objects, the most it can, in every held-out image": (
        lambda row, steps: steps > 1 and row["test_mean_count"] == steps
    ),
    "the ELBO of held-out images, {test_elbo:.1f}, is below that of a model without any object, "
    "{test_empty_elbo:.1f}": lambda row, _: row["test_elbo"] < row["test_empty_elbo"],
}
_OF_WHOLE_IMAGES: dict[str, Callable[[Row, int], bool]] = {
    # the first window is empty and the second one has the object: this seldom goes away
    "in {test_empty_objects:.1%} of the held-out images it counts an object of which nothing is "
    "visible": lambda row, _: row["test_empty_objects"] > EMPTY,
    # one window over two objects: nothing remains for the second window to learn from
    "in {test_large_windows:.1%} of the held-out images it counts an object in a window far larger "
    "than the prior's": lambda row, _: row["test_large_windows"] > TOO_LARGE,
}
