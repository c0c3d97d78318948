"""AIR as an estimator with scikit-learn's conventions."""

import dataclasses
import functools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from airjax.checks import at_least_1, whole
from airjax.config import Config, EstimatorName
from airjax.config_file import from_json, to_json
from airjax.console import Decision, console, report, tracked
from airjax.data.cache import keep_programs
from airjax.data.dataset import Dataset, as_images, check_varied
from airjax.data.inputs import batches_of, images_of, number_of, picture_of
from airjax.data.survey import Survey
from airjax.errors import InputError
from airjax.inference import blocks, infer, simulation
from airjax.inference.infer import BATCH
from airjax.inference.metrics import EVALUATED
from airjax.inference.reading import BOUND, FOUND
from airjax.inference.results import Objects, Scenes
from airjax.programs.attend import AttendGuide
from airjax.programs.guide import Guide
from airjax.programs.model import Model, geometric_like
from airjax.training import loop, stream
from airjax.training.checkpoint import load_model, load_training, save_model
from airjax.training.health import remedy
from airjax.training.resolve import resolved


class AIR(TransformerMixin, BaseEstimator):
    """Counts, locates and describes the objects in images, without labels.

    Images are ``[N, H, W]`` or, with colours, ``[N, H, W, C]``; uint8 or floats in [0, 1]; bright
    objects on a dark background (or see ``background`` of the config's model), all of one size.
    Settings that are not given are decided as ``airjax train`` decides them for the same images:
    `airjax.training.resolve`.

    Args:
        max_objects: T, the largest number of objects in an image (default: the config's, 3).
        object_size: typical larger side of an object in pixels, or "auto" to estimate it from the
            images. None is "auto", unless the config has the settings that depend on it.
        steps: number of gradient steps (default: the config's).
        learning_rate: peak learning rate of Adam (default: the config's, or the estimator's own).
        estimator: of the ELBO's gradient: "count", "iwae" or "score" (default: the config's).
        num_paths: K, paths of the guide that the posterior over the count is averaged over.
        second_look: check whether one of the objects found is two, see
            `airjax.inference.second_look`: of all images, of none, or (None) of the doubtful ones,
            of which the objects leave more than 80 nats unexplained (none where objects hide
            others). Separates close objects.
        config: all other settings. The ``data`` of its training names the images: for "digits" and
            "multi-mnist" the paper's guide and priors are used. Its ``seed`` is not used.
        random_state: an int for reproducible results; a RandomState, a Generator or None draws one.

    Attributes:
        model_: NumPyro program of images, `airjax.programs.model.Model`; ``air.model`` for short.
        guide_: its guide, `airjax.programs.guide.Guide`; ``air.guide`` for short.
        history_: metrics of the training, see `airjax.training.trainer.Trainer.run`. ``test_...``
            are those of the validation images or, without any, of the first training images.
        restarts_: number of trainings that collapsed before this one, see
            `airjax.training.collapse`.
        collapsed_: what is wrong with this training, or None.
        config_: all settings of the training.
        seed_: the seed that was used.
    """

    def __init__(
        self,
        max_objects: int | None = None,
        *,
        object_size: float | str | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        estimator: EstimatorName | None = None,
        num_paths: int = 5,
        second_look: bool | None = None,
        config: Config | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = 0,
    ):
        self.max_objects = max_objects
        self.object_size = object_size
        self.steps = steps
        self.learning_rate = learning_rate
        self.estimator = estimator
        self.num_paths = num_paths
        self.second_look = second_look
        self.config = config
        self.random_state = random_state

    @classmethod
    def of(
        cls,
        model: Model,
        guide: Guide,
        num_paths: int = 5,
        second_look: bool | None = None,
        random_state: int = 0,
    ) -> "AIR":
        """An AIR with these trained programs."""
        air = cls(
            model.config.model_steps,
            num_paths=num_paths,
            second_look=second_look,
            config=Config(model=model.config),
            random_state=random_state,
        )
        air.model_, air.guide_, air.seed_ = model, guide, random_state
        keep_programs()
        return air

    @property
    def model(self) -> Model:
        """The generative program with its weights."""
        check_is_fitted(self, "model_")
        return self.model_

    @property
    def guide(self) -> Guide:
        """The guide with its weights."""
        check_is_fitted(self, "guide_")
        return self.guide_

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation_images: Any = None,
        callback: Callable[[dict[str, Any]], bool | None] | None = None,
    ) -> "AIR":
        """Trains on images. Ctrl-C ends the training after the current chunk of steps and keeps
        what was learned so far.

        Args:
            X: images, or the path of a folder of pictures. Images on disk that are larger than
                memory are streamed, see `airjax.config.TrainConfig`.
            y: not used.
            validation_images: images that the training is evaluated on.
            callback: called with each row of ``history_``; ends the training by returning True.

        Raises:
            InputError: if images or settings break a rule.
        """
        keep_programs()
        base = self.config or Config()
        data, seen = images_of(X, "X", base, self.object_size)
        images = data.images
        same = base if seen is None else dataclasses.replace(base, pictures=seen.pictures)
        watched = (
            images
            if validation_images is None
            else images_of(validation_images, "validation_images", same)[0].images
        )
        if watched.shape[1:] != images.shape[1:]:
            rule = f"must have the size of X, {images.shape[1:]}"
            raise InputError("validation_images", rule, watched.shape[1:])
        check_varied(images, "X")
        config, decisions = self._resolved(images, seen)
        if data.source is not None:
            stream.check_installed()
            decisions.append(stream.decision(data))
        record, on_screen = loop.Record(), console.is_terminal or console.is_jupyter
        say = functools.partial(report, to_stderr=not on_screen)  # stdout is the caller's
        if decisions:
            lines = (f"{what} {value} ({flag})" for what, value, flag in decisions)
            say(f"decided from the images: {', '.join(lines)}")
        outcome = loop.train(
            config, data, {"test": Dataset(watched[:EVALUATED])}, record,
            report=say, each_row=False, callback=callback,
        )  # fmt: skip
        self.config_, self.seed_, self.collapsed_ = config, config.train.seed, outcome.collapsed
        self.history_, self.restarts_ = record.rows, record.restarts
        self.model_, self.guide_ = outcome.trainer.programs(outcome.state)
        if outcome.collapsed is not None:
            message = f"this training has collapsed: {outcome.collapsed}"
            advice = remedy(config, images)
            warnings.warn(f"{message}; what may mend it: {advice}", ConvergenceWarning, 2)
        return self

    def predict(self, X: Any) -> Scenes:
        """Finds the objects in images: counts, boxes, codes.

        Args:
            X: images, an iterable of images ``[H, W]``, or the path of a folder of pictures, of one
                picture, or a list of such paths. Pictures that cannot be read are an error here.
        """
        return Scenes.joined(list(tracked(self.predict_batches(X), "reading", number_of(X), len)))

    def predict_batches(self, X: Any, batch_size: int = BATCH) -> Iterator[Scenes]:
        """As `predict`, batch by batch, in bounded memory for any number of images. The results do
        not depend on the size of the batches."""
        model, guide = self.model, self.guide
        num_paths = whole(num_paths=self.num_paths)
        at_least_1(batch_size=batch_size, num_paths=num_paths)
        read: list[UInt8[np.ndarray, "_ H W *C"]] = []  # the reader is ahead of the results

        def chunks():
            for images in self._batches(X, batch_size):
                read.append(images)
                yield images

        how = self.seed_, num_paths, self.second_look
        for reading in infer.read_stream(model, guide, chunks(), FOUND, *how):
            yield Scenes(read.pop(0), reading, model)

    def find(self, picture: Any) -> Objects:
        """Finds the objects in one picture of any size, however many there are; see
        `airjax.inference.whole`.

        Args:
            picture: ``[H, W]`` or ``[H, W, C]``, or the path of a file.

        Raises:
            InputError: if the picture is not an image, or has another size than the model's images
                and the guide is not attend, the model has a background or objects hide others.
        """
        return next(self.find_each([picture]))

    def find_each(self, pictures: Iterable[Any], intervals: bool = True) -> Iterator[Objects]:
        """`find` of each picture: several are read at the same time, in bounded memory.

        Args:
            pictures: as for `find`.
            intervals: allow for crowding (`airjax.inference.simulation`), in twice the time.
        """
        guide, images = self.guide, map(self._picture, pictures)
        if isinstance(guide, AttendGuide) and self.model.config.sums_on_black:
            if self.second_look:
                rule = (
                    "must be off for pictures of any size: each object is compared with two anyway"
                )
                raise InputError("second_look", rule)
            of = self.model, guide, images
            yield from simulation.find_each(*of, self.seed_) if intervals else blocks.find_each(*of)
            return
        for image in images:
            if image.shape != self.model.config.image_shape:
                rule = f"must have the model's size {self.model.config.image_shape}, as"
                why = "its guide is not attend, it has a background, or its objects hide others"
                raise InputError("picture", f"{rule} {why}", image.shape)
            yield self.predict(image[None])[0]

    def transform(self, X: Any) -> Float[np.ndarray, "N features"]:
        """Each image as T times (z_pres, z_where, z_what); 0 for absent objects."""
        rows = []
        for scenes in self.predict_batches(X):
            present = scenes.present[..., None].astype(np.float32)
            objects = np.concatenate([present, scenes.z_where, scenes.z_what], axis=-1)
            rows.append(objects.reshape(len(scenes), -1))
        return np.concatenate(rows)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the columns of `transform`."""
        config = self.model.config
        one = ["z_pres", "scale", "x", "y"]
        one += [f"z_what{i}" for i in range(config.encoder_latent_size)]
        return np.array([f"{n}_{t}" for t in range(config.model_steps) for n in one], object)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean ELBO, in nats an image; y is not used."""
        chunks = tracked(self._batches(X, BATCH), "scoring", number_of(X), len)
        parts = infer.read_stream(self.model, self.guide, chunks, BOUND, self.seed_, self.num_paths)
        return float(np.concatenate([part.elbo for part in parts]).mean())

    def sample(self, n_samples: int = 1, random_state: int = 0) -> Float[np.ndarray, "n H W *C"]:
        """Images drawn from the model, with all numbers of objects equally likely."""
        at_least_1(n_samples=n_samples)
        k = geometric_like(1.0, self.model.config.model_steps)
        return np.asarray(self.model.scenes(jax.random.key(random_state), n_samples, k))

    def save(self, folder: str | Path) -> None:
        """Writes the weights, all settings and the history to a new folder.

        Raises:
            InputError: if ``folder`` exists (nothing is overwritten) or cannot be written.
        """
        config = json.loads(to_json(getattr(self, "config_", self.config)))
        kept = {name: getattr(self, name, None) for name in ("history_", "restarts_", "collapsed_")}
        training = {name.rstrip("_"): value for name, value in kept.items()}
        params = self.get_params(deep=False)
        settings = {
            k: _plain(k, v) for k, v in params.items() if k not in ("config", "random_state")
        }
        training |= {"config": config, "settings": settings, "seed": self.seed_}
        save_model(Path(folder), self.model, self.guide, training)

    @classmethod
    def load(cls, folder: str | Path) -> "AIR":
        """Reads what `save` wrote, or the model in a run's folder, with its settings, seed and
        history; nothing in it is executed. Warns if its training had collapsed.

        Raises:
            InputError: if a file is missing or damaged, or belongs to a newer airjax.
        """
        path = Path(folder)
        path = path / "model" if (path / "model").is_dir() else path
        (model, guide), training = load_model(path), load_training(path)
        settings: dict[str, Any] = training.get("settings", {})
        air = cls(**settings, config=Config(model=model.config))
        air.model_, air.guide_, air.seed_ = model, guide, 0
        if training:
            air.config = from_json(Config, json.dumps(training["config"]), str(path))
            air.config_ = air.config
            air.random_state = air.seed_ = training.get("seed", air.config.train.seed)
            air.history_, air.restarts_ = training["history"], training["restarts"]
            air.collapsed_ = training["collapsed"]
        if getattr(air, "collapsed_", None) is not None:
            message = f"the training of {folder} has collapsed: {air.collapsed_}"
            warnings.warn(message, ConvergenceWarning, 2)
        keep_programs()
        return air

    def __str__(self) -> str:
        text = repr(self)
        if getattr(self, "history_", None):
            row = self.history_[-1]
            text += f"\ntrained for {row['step']} steps, {row['seconds']:.0f} s"
            if "test_elbo" in row:
                text += f"; ELBO {row['test_elbo']:.1f} nats an image, "
                text += f"{row['test_mean_count']:.2f} objects an image"
        return text

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def _picture(self, picture: Any) -> UInt8[np.ndarray, "H W *C"]:
        """One image of any size, from an array or from a file."""
        if isinstance(picture, str | Path):
            settings = (getattr(self, "config_", self.config) or Config()).pictures
            return picture_of(Path(picture), settings, self.model.config.channels)
        array = np.asarray(picture)
        if array.ndim not in (2, 3):
            raise InputError("picture", "must have shape [H, W] or [H, W, C]", list(array.shape))
        return as_images(array[None], "picture")[0]

    def _batches(self, X: Any, size: int) -> Iterator[UInt8[np.ndarray, "_ H W *C"]]:
        """Batches of images of the model's size."""
        want = self.model.config.image_shape
        settings = getattr(self, "config_", self.config) or Config()
        for images in batches_of(X, size, settings.pictures, want):
            if images.shape[1:] != want:
                raise InputError(
                    "X", f"must have images of the model's size {want}", images.shape[1:]
                )
            yield images

    def _resolved(
        self, images: UInt8[np.ndarray, "N H W *C"], seen: Survey | None = None
    ) -> tuple[Config, list[Decision]]:
        """All settings of a training, and the decisions made from the images."""
        base = self.config or Config()
        estimator = self.estimator or base.train.estimator
        rate = base.train.learning_rate if estimator == base.train.estimator else None
        train = dataclasses.replace(
            base.train,
            estimator=estimator,
            steps=base.train.steps if self.steps is None else whole(steps=self.steps),
            learning_rate=rate if self.learning_rate is None else float(self.learning_rate),
            seed=_seed(self.random_state),
        )
        max_objects = self.max_objects
        if max_objects is not None:
            max_objects = whole(max_objects=max_objects)
            at_least_1(max_objects=max_objects)
        config = dataclasses.replace(base, train=train)
        return resolved(config, images, self.object_size, seen, max_objects)


def _plain(name: str, value: Any) -> Any:
    """A setting as JSON has it, whatever type of number the user gave."""
    if name in ("max_objects", "steps", "num_paths") and value is not None:
        return whole(**{name: value})
    return value.item() if isinstance(value, np.generic) else value


def _seed(random_state: Any) -> int:
    """The seed for a ``random_state`` of scikit-learn."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    return whole(random_state=random_state)
