"""AIR as an estimator with scikit-learn's conventions."""

import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from airjax import infer, tiles
from airjax.checkpoint import load_model, save_model
from airjax.checks import at_least_1
from airjax.config import Config, EstimatorName, ModelConfig, TrainConfig
from airjax.console import TrainingProgress, console
from airjax.data.dataset import Dataset, as_images
from airjax.errors import InputError
from airjax.guide import Guide
from airjax.infer import BATCH, Bounds, Found
from airjax.interrupt import Interrupt
from airjax.model import Model, geometric_like
from airjax.object_size import fitted
from airjax.scenes import Objects, Scenes
from airjax.train import EVALUATED, Trainer
from airjax.watch import collapse


class AIR(TransformerMixin, BaseEstimator):
    """Counts, locates and describes the objects in images, without labels.

    Images are ``[N, H, W]`` or, with colours, ``[N, H, W, C]``; uint8 or floats in [0, 1]; bright
    objects on a dark ground (or see ``background`` of the config's model), all of one size.

    Args:
        max_objects: T, the most objects an image can have.
        object_size: typical larger side of an object in pixels, "auto" to have it estimated from
            the images, or None for that where the settings are those of the paper; see
            `airjax.object_size`.
        steps: number of gradient steps; those of ``config``, or 6,000, unless given.
        learning_rate: of Adam, once it has risen; that of ``config``, or the estimator's own,
            unless given.
        estimator: of the ELBO's gradient: count, iwae or score; that of ``config``, or count,
            unless given.
        n_samples: K, paths of the guide that the posterior over the count is averaged over.
        second_look: hold the guide's count against one object more when images are read, see
            `airjax.second_look`: more objects that lie close are told apart; many times slower.
        config: all other settings, see `airjax.config.Config`. Its ``model_steps`` and ``seed`` do
            not count: ``max_objects`` and ``random_state`` do.
        random_state: an int for results that can be repeated; a RandomState or None draw one.

    Attributes:
        model_: NumPyro program of images, see `airjax.model.Model`; ``air.model`` for short.
        guide_: likewise, see `airjax.guide.Guide`; ``air.guide`` for short.
        history_: metrics while training, see `airjax.train.Trainer.run`; ``test_...`` are those of
            the validation images, or, without any, of the first images trained on.
        restarts_: number of trainings that collapsed before this one, see `airjax.watch`.
        seed_: the seed that was used.
    """

    def __init__(
        self,
        max_objects: int = 3,
        *,
        object_size: float | str | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        estimator: EstimatorName | None = None,
        n_samples: int = 5,
        second_look: bool = False,
        config: Config | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.max_objects = max_objects
        self.object_size = object_size
        self.steps = steps
        self.learning_rate = learning_rate
        self.estimator = estimator
        self.n_samples = n_samples
        self.second_look = second_look
        self.config = config
        self.random_state = random_state

    @classmethod
    def of(
        cls,
        model: Model,
        guide: Guide,
        n_samples: int = 5,
        second_look: bool = False,
        random_state: int = 0,
    ) -> "AIR":
        """An AIR with these trained programs."""
        air = cls(
            model.config.model_steps,
            n_samples=n_samples,
            second_look=second_look,
            config=Config(model=model.config),
            random_state=random_state,
        )
        air.model_, air.guide_, air.seed_ = model, guide, random_state
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
        """Trains on images. An interruption (Ctrl-C) ends it after the current chunk of steps, and
        what was learned so far is kept.

        Args:
            X: images.
            y: not used.
            validation_images: images that the training is watched on.
            callback: is given each row of ``history_`` as it comes; ends the training by returning
                True.

        Raises:
            InputError: if images or settings break a rule.
        """
        images = _images(X, "X")
        watched = images if validation_images is None else _images(validation_images, "validation")
        if watched.shape[1:] != images.shape[1:]:
            rule = f"must have the size of X, {images.shape[1:]}"
            raise InputError("validation_images", rule, watched.shape[1:])
        config = self._settings(images)
        self.seed_, self.restarts_ = config.train.seed, 0
        while self._trained(config, images, Dataset(watched[:EVALUATED]), callback) is not None:
            self.restarts_ += 1
        return self

    def predict(self, X: Any) -> Scenes:
        """What there is in images: counts, boxes, codes.

        Args:
            X: images, or an iterable of images ``[H, W]``.
        """
        return _joined(list(self.predict_batches(X)))

    def predict_batches(self, X: Any, batch_size: int = BATCH) -> Iterator[Scenes]:
        """As `predict`, batch by batch, in bounded memory for any number of images. What is found
        in an image does not depend on the size of the batches."""
        model, guide = self.model, self.guide
        at_least_1(batch_size=batch_size, n_samples=self.n_samples)
        seen: list[UInt8[np.ndarray, "_ H W *C"]] = []  # that the reader is ahead of the results

        def chunks():
            for images in self._batches(X, batch_size):
                seen.append(images)
                yield images

        how = self.seed_, self.n_samples, self.second_look
        for found in infer.read_stream(model, guide, chunks(), Found, *how):
            yield Scenes(seen.pop(0), found, model)

    def find(self, picture: Any, overlap: float = 0.5) -> Objects:
        """The objects in one picture of any size, read in overlapping tiles of the training size;
        what several tiles see is one object, see `airjax.tiles.merged`.

        Args:
            picture: ``[H, W]`` or ``[H, W, C]``.
            overlap: of neighbouring tiles, as a share of a tile's side; an object should be smaller
                than that.

        Raises:
            InputError: if the picture is no image, or the overlap is not from 0 to below 1.
        """
        if not 0 <= overlap < 1:
            raise InputError("overlap", "must be from 0 to below 1", overlap)
        array = np.asarray(picture)
        if array.ndim not in (2, 3):
            raise InputError("picture", "must have shape [H, W] or [H, W, C]", list(array.shape))
        image = as_images(array[None], "picture")[0]
        corners: list[tuple[int, int]] = []

        def cut() -> Iterator[np.ndarray]:
            for tile in tiles.tiles(image, self.model.config.image_size, overlap):
                corners.append((tile.top, tile.left))
                yield tile.image

        parts, first = [], 0
        for scenes in self.predict_batches(cut()):
            parts.append((scenes, np.array(corners[first : first + len(scenes)])))
            first += len(scenes)
        return tiles.merged(tiles.seen(parts, image))

    def transform(self, X: Any) -> Float[np.ndarray, "N features"]:
        """Each image as T times (presence, z_where, z_what), zero for absent objects."""
        rows = []
        for scenes in self.predict_batches(X):
            present = scenes.present[..., None].astype(np.float32)
            objects = np.concatenate([present, scenes.positions, scenes.codes], axis=-1)
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
        chunks = self._batches(X, BATCH)
        parts = infer.read_stream(
            self.model, self.guide, chunks, Bounds, self.seed_, self.n_samples
        )
        return float(np.concatenate([part.elbo for part in parts]).mean())

    def sample(self, n_samples: int = 1, random_state: int = 0) -> Float[np.ndarray, "n H W *C"]:
        """Scenes that the model makes up; all numbers of objects are equally likely."""
        at_least_1(n_samples=n_samples)
        k = geometric_like(1.0, self.model.config.model_steps)
        return np.asarray(self.model.scenes(jax.random.key(random_state), n_samples, k))

    def save(self, folder: str | Path) -> None:
        """Writes the weights and the model's settings to a new folder.

        Raises:
            InputError: if ``folder`` exists (nothing is overwritten) or cannot be written.
        """
        save_model(Path(folder), self.model, self.guide)

    @classmethod
    def load(cls, folder: str | Path) -> "AIR":
        """Reads what `save` wrote, or the model in a run's folder; nothing in it is executed.

        Raises:
            InputError: if a file is missing or damaged, or belongs to a newer airjax.
        """
        path = Path(folder)
        return cls.of(*load_model(path / "model" if (path / "model").is_dir() else path))

    def __str__(self) -> str:
        told = repr(self)
        if getattr(self, "history_", None):
            row = self.history_[-1]
            told += f"\ntrained for {row['step']} steps, {row['seconds']:.0f} s"
            if "test_elbo" in row:
                told += f"; ELBO {row['test_elbo']:.1f} nats an image, "
                told += f"{row['test_mean_count']:.2f} objects an image"
        return told

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def _batches(self, X: Any, size: int) -> Iterator[UInt8[np.ndarray, "_ H W *C"]]:
        """Batches of images of the model's size."""
        want = self.model.config.image_shape
        for images in _batches(X, size):
            if images.shape[1:] != want:
                raise InputError(
                    "X", f"must have images of the model's size {want}", images.shape[1:]
                )
            yield images

    def _settings(self, images: UInt8[np.ndarray, "N H W *C"]) -> Config:
        """All settings of a training."""
        base = self.config or Config(TrainConfig(data="images"), ModelConfig(guide="auto"))
        estimator = self.estimator or base.train.estimator
        rate = base.train.learning_rate if estimator == base.train.estimator else None
        train = dataclasses.replace(
            base.train,
            estimator=estimator,
            steps=base.train.steps if self.steps is None else self.steps,
            learning_rate=rate if self.learning_rate is None else self.learning_rate,
            seed=_seed(self.random_state),
        )
        model = dataclasses.replace(base.model, model_steps=self.max_objects)
        model = fitted(model, self.object_size, images)
        return dataclasses.replace(base, train=train, model=model.for_images(images.shape[1:]))

    def _trained(
        self,
        config: Config,
        images: UInt8[np.ndarray, "N H W *C"],
        watched: Dataset,
        callback: Callable[[dict[str, Any]], bool | None] | None,
    ) -> str | None:
        """Trains once; returns what is wrong if it is to be tried again."""
        trainer = Trainer(config.restarted(self.restarts_), images)
        state, trouble, self.history_ = trainer.init(), None, []
        shown = console.is_terminal or console.is_jupyter
        progress = TrainingProgress(config.train) if shown else nullcontext()
        main = threading.current_thread() is threading.main_thread()  # signals go nowhere else
        with Interrupt(ends_process=False) if main else nullcontext() as interrupt, progress as bar:
            for after, row in trainer.run(state, {"test": watched}):
                state = after
                self.history_.append(row)
                if bar is not None:
                    bar.show(row)
                stop = callback is not None and callback(row) is True
                trouble = collapse(self.history_, config)
                if trouble is None and stop or (interrupt is not None and interrupt.signum is not None):
                    break
                if trouble is not None and self.restarts_ < config.tries.restarts:
                    return trouble
        self.model_, self.guide_ = trainer.programs(state)
        if trouble is not None:
            warnings.warn(f"this training has collapsed: {trouble}", ConvergenceWarning, 3)
        return None


def _images(X: Any, name: str) -> UInt8[np.ndarray, "N H W *C"]:
    """Checked images; a last axis of one channel is dropped."""
    return as_images(np.asarray(X), name)


def _batches(X: Any, size: int) -> Iterator[UInt8[np.ndarray, "_ H W *C"]]:
    """Images in batches, from an array or from an iterable of images ``[H, W]``."""
    if hasattr(X, "shape"):  # a memory map stays one until a batch of it is read
        if len(X.shape) < 3 or len(X) == 0:
            _images(X, "X")
        for start in range(0, len(X), size):
            yield _images(X[start : start + size], "X")
        return
    batch: list[Any] = []
    first, some = None, False
    for image in X:
        array = np.asarray(image)
        if first is not None and array.shape != first:
            raise InputError("X", f"must hold images of one size, {first}", array.shape)
        first, some = array.shape, True
        batch.append(array)
        if len(batch) == size:
            yield _images(np.stack(batch), "X")
            batch = []
    if batch or not some:
        yield _images(np.stack(batch) if batch else np.zeros((0, 0, 0)), "X")


def _joined(parts: Iterable[Scenes]) -> Scenes:
    parts = list(parts)
    images = np.concatenate([part.images for part in parts])
    return Scenes(images, infer.joined([part.found for part in parts]), parts[0].model)


def _seed(random_state: Any) -> int:
    """An int for what scikit-learn takes as random_state."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(random_state)
