"""The settings: frozen, checked when made, saved with every model.

Each field is also a flag of ``airjax train``, except the size and colours of the images. A field
that is ``auto`` or None is decided once, where the images are known: `airjax.training.resolve`.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from airjax.checks import a_seed, at_least_1, fields, finite, one_of, positive
from airjax.errors import InputError
from airjax.picture_config import PictureConfig

NonLinearity = Literal["relu", "tanh", "sigmoid", "softplus", "elu", "gelu", "silu"]
GuideName = Literal["auto", "attend", "window", "difference", "basic"]
EstimatorName = Literal["count", "score", "iwae"]
Annealing = Literal["none", "lin", "exp"]
Compose = Literal["add", "over"]
Background = Literal["auto", "none", "local", "lines", "flat", "mean", "learned"]
Stream = Literal["auto", "yes", "no"]
LEARNING_RATES = {"count": 2e-3, "iwae": 2e-3, "score": 3e-4}  # score functions have high variance
LIKELIHOOD_SD = 0.3  # the tutorial's; a learned one starts here
RUNS = Path("runs")  # folder of new runs unless another one is given
NEED_MASKS = ("count", "iwae")  # the count is summed over masked programs


@dataclass(frozen=True)
class ModelConfig:
    """The generative program and the guide.

    Attributes:
        model_steps: T, the largest number of objects in an image.
        z_pres_prior: k, the ratio p(n + 1) / p(n) of the prior on the count n (in crops of
            pictures, 0.1).
        z_pres_prior_raw: use z_pres_prior as the probability of z_pres_t = 1 at each step.
        scale_prior_mean: prior mean of the scale s. The window of an object is W / s pixels wide.
        scale_prior_sd: prior standard deviation of s.
        pos_prior_mean: prior mean of the position x, y.
        pos_prior_sd: prior standard deviation of x, y.
        likelihood_sd: standard deviation of a pixel. "auto" is 0.3; on black, less for objects
            that are smaller or fainter than a digit, so that they are worth as much; in crops, less
            where objects are smooth, so that their detail is worth what a digit's is. "learned"
            starts at 0.3; below 0.3, squared errors keep the weight against the priors that they
            have at 0.3.
        background: the image behind the objects. "mean" is the mean of the training images;
            "learned" starts there. "flat" is one colour for each image, the median of its border.
            "local" subtracts from each picture what varies slowly in it, before the model sees it,
            and "lines" long straight lines as well (frames, rulings); of images in memory "lines"
            are horizontal or vertical, and cross most of the image. "auto" is "lines" where such
            lines are seen, "local" where the background of pictures is uneven, "flat" where images
            in memory have each a colour of their own, "mean" where the median of the images is not
            black, and otherwise "none".
        compose: how objects make an image. "add": their intensities are added up, as in the paper.
            "over": they hide what is behind them, and the decoder also has an opacity for each
            pixel; the object of the first step is in front. For images of one size. The default is
            "over" where each image has a colour of its own behind the objects ("flat").
        masking: leave z_where and z_what of absent objects out of the log-probability.
        guide: "attend" places each window where most of the image is not yet explained. "window",
            the paper's, reads the whole image and places windows anywhere. "difference" is
            "window" that reads the image less the objects so far. "basic" is "window" without
            windows: z_what is read from the LSTM's state. "auto" is "window" for multi-mnist,
            "attend" for all other data.
        window_size: side of the windows x_att and y_att, in their own pixels.
        encoder_latent_size: Z, the size of z_what. Where objects hide each other, the last C of it
            are the object's colour.
        rnn_hidden_size: size of the guide's LSTM.
        predict_net: hidden sizes of the net from the LSTM's state to z_pres and z_where.
        bl_predict_net: hidden sizes of the net from the baseline's LSTM to the baseline's value.
        encoder_net: hidden sizes of the net from x_att to z_what (200 in the tutorial). Two layers
            separate more close pairs.
        decoder_net: hidden sizes of the net from z_what to y_att.
        embed_channels: channels of the convolution that reads the image, for the baseline and all
            guides but attend. The kernel is half a window wide, the stride a quarter. 0 is no
            convolution, as in the tutorial.
        embed_net: hidden sizes of the net between the convolution (or the flat image; in the guide
            attend, the attended windows) and the LSTM. Empty is none, as in the tutorial.
        non_linearity: activation function of all hidden layers.
        decoder_output_bias: added to the decoder's output. Below 0, objects start mostly empty.
        decoder_output_use_sigmoid: squash the decoder's output to (0, 1). Where objects hide each
            other, it always is.
        baseline_scalar: factor of the baseline's output.
        image_size: H and W in pixels, taken from the data.
        channels: C, the number of colour channels, taken from the data.

    Raises:
        InputError: if a value breaks its rule.
    """

    model_steps: int = 3
    z_pres_prior: float = 0.01
    z_pres_prior_raw: bool = False
    scale_prior_mean: float = 3.0
    scale_prior_sd: float = 0.2
    pos_prior_mean: float = 0.0
    pos_prior_sd: float = 1.0
    likelihood_sd: float | Literal["auto", "learned"] = "auto"
    background: Background = "auto"
    compose: Compose = "add"
    masking: bool = True
    guide: GuideName = "auto"
    window_size: int = 20
    encoder_latent_size: int = 50
    rnn_hidden_size: int = 256
    predict_net: tuple[int, ...] = (200,)
    bl_predict_net: tuple[int, ...] = (200,)
    encoder_net: tuple[int, ...] = (400, 200)
    decoder_net: tuple[int, ...] = (200,)
    embed_channels: int = 32
    embed_net: tuple[int, ...] = (256,)
    non_linearity: NonLinearity = "relu"
    decoder_output_bias: float = -2.0
    decoder_output_use_sigmoid: bool = True
    baseline_scalar: float = 1.0
    image_size: tuple[int, int] = (50, 50)
    channels: int = 1

    def __post_init__(self):
        at_least_1(**fields(self,
            "model_steps", "window_size", "encoder_latent_size", "rnn_hidden_size",
            "predict_net", "bl_predict_net", "encoder_net", "decoder_net", "embed_net",
            "image_size", "channels",
        ))  # fmt: skip
        positive(**fields(self,
            "z_pres_prior", "scale_prior_mean", "scale_prior_sd", "pos_prior_sd",
            "baseline_scalar",
        ))  # fmt: skip
        if not isinstance(self.likelihood_sd, str):
            positive(likelihood_sd=self.likelihood_sd)
        one_of(get_args(Background), background=self.background)
        one_of(get_args(Compose), compose=self.compose)
        if self.embed_channels < 0:
            raise InputError("embed_channels", "must be at least 0", self.embed_channels)
        finite(**fields(self, "pos_prior_mean", "decoder_output_bias"))
        one_of(get_args(NonLinearity), non_linearity=self.non_linearity)
        one_of(get_args(GuideName), guide=self.guide)
        if self.compose == "over" and self.encoder_latent_size <= self.channels:
            rule = f"must be above {self.channels}, the colours, where objects hide each other"
            raise InputError("encoder_latent_size", rule, self.encoder_latent_size)
        if self.z_pres_prior_raw and self.z_pres_prior >= 1:
            raise InputError("z_pres_prior", "must be below 1, as raw", self.z_pres_prior)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image, ``(H, W)``, or ``(H, W, C)`` with colours."""
        return (*self.image_size, self.channels) if self.channels > 1 else self.image_size

    @property
    def canvas_shape(self) -> tuple[int, ...]:
        """The shape of a canvas, see `airjax.programs.compose`: that of an image, and with opacity
        one channel more."""
        return self.image_shape if self.compose == "add" else (*self.image_size, self.channels + 1)

    @property
    def sums_on_black(self) -> bool:
        """Whether an image is the sum of its objects, so that pictures of any size can be read."""
        return self.background == "none" and self.compose == "add"

    @property
    def object_shape(self) -> tuple[int, ...]:
        """The shape of a window y_att that the decoder draws, with the channels of a canvas."""
        return (self.window_size, self.window_size, *self.canvas_shape[2:])

    @property
    def window_shape(self) -> tuple[int, ...]:
        """The shape of a window, ``(w, w)``, or ``(w, w, C)`` with colours."""
        w = self.window_size
        return (w, w, self.channels) if self.channels > 1 else (w, w)

    def for_images(self, shape: tuple[int, ...]) -> "ModelConfig":
        """These settings for images of this shape, ``(H, W)`` or ``(H, W, C)``.

        Raises:
            InputError: if the window is larger than the images.
        """
        height, width, *channels = shape
        if self.window_size > min(height, width):
            rule = f"must be at most the images' smaller side, {min(height, width)}"
            raise InputError("window_size", rule, self.window_size)
        return replace(self, image_size=(height, width), channels=math.prod(channels))


@dataclass(frozen=True)
class TrainConfig:
    """The training of one run.

    Attributes:
        data: name of a data set, or path of an .npz, .npy or .zarr of images, or of a folder of
            pictures or of ArrayRecord files of pictures.
        steps: number of gradient steps (default: 1,000 for digits, 2,000 where objects of a named
            data set hide others, 6,000 otherwise).
        batch_size: number of images in a step.
        learning_rate: peak learning rate of Adam, after the warm-up (default: 0.0003 for the
            estimator score, 0.002 otherwise).
        estimator: estimator of the ELBO's gradient. "count" sums over the count exactly; "score"
            uses a score function and baselines (the tutorial's); "iwae" is the importance-weighted
            bound.
        seed: random seed of the initialisation, the mini-batches and the noise.
        stream: read images on disk while training, instead of all of them before it: an .npy, a
            .zarr, whole pictures or ArrayRecord files. auto is yes for more than 2 GiB of images.
            The data then decide settings by at most 10,000 images, and at most 10,000 held-out
            ones are evaluated.

    Raises:
        InputError: if a value breaks its rule.
    """

    data: str = "images"
    steps: int | None = None
    batch_size: int = 64
    learning_rate: float | None = None
    estimator: EstimatorName = "count"
    seed: int = 0
    stream: Stream = "auto"

    def __post_init__(self):
        one_of(get_args(EstimatorName), estimator=self.estimator)
        one_of(get_args(Stream), stream=self.stream)
        at_least_1(batch_size=self.batch_size)
        if self.steps is not None:
            at_least_1(steps=self.steps)
        positive(learning_rate=self.peak_learning_rate)
        a_seed(self.seed)

    @property
    def num_steps(self) -> int:
        """The number of gradient steps.

        Raises:
            InputError: if it is not decided yet.
        """
        if self.steps is None:
            raise InputError("steps", "must be given, or decided by airjax.training.resolve")
        return self.steps

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate; the estimator's default unless given."""
        rate = self.learning_rate
        return LEARNING_RATES[self.estimator] if rate is None else rate


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of the gradient estimators.

    Attributes:
        particles: K, the paths of the guide for each image; averaged, or weighted by importance
            (iwae).
        exploration_steps: steps in which the exploration of counts (the share of counts that the
            guide draws uniformly) falls from 1 to its floor.
        exploration_floor: share of explored counts afterwards; 0 in the last quarter of the steps.
        baselines: use baselines with the estimator score.
        baseline_learning_rate: learning rate of Adam for the baselines.
    """

    particles: int = 1
    exploration_steps: int = 1000
    exploration_floor: float = 0.05
    baselines: bool = True
    baseline_learning_rate: float = 0.01

    def __post_init__(self):
        at_least_1(**fields(self, "particles", "exploration_steps"))
        if not 0 <= self.exploration_floor < 1:
            raise InputError("exploration_floor", "must be 0 to 1", self.exploration_floor)
        positive(baseline_learning_rate=self.baseline_learning_rate)


@dataclass(frozen=True)
class AnnealConfig:
    """How z_pres_prior changes during training.

    Attributes:
        anneal_prior: how the prior changes: not at all, linearly or exponentially.
        anneal_prior_to: final value of z_pres_prior.
        anneal_prior_begin: step at which the change starts.
        anneal_prior_duration: number of steps that the change takes.
    """

    anneal_prior: Annealing = "none"
    anneal_prior_to: float = 1e-7
    anneal_prior_begin: int = 0
    anneal_prior_duration: int = 100_000

    def __post_init__(self):
        one_of(get_args(Annealing), anneal_prior=self.anneal_prior)
        positive(anneal_prior_to=self.anneal_prior_to)
        at_least_1(anneal_prior_duration=self.anneal_prior_duration)
        if self.anneal_prior_begin < 0:
            raise InputError("anneal_prior_begin", "must be at least 0", self.anneal_prior_begin)


@dataclass(frozen=True)
class ProgressConfig:
    """What is reported and saved during training.

    Attributes:
        progress_every: steps between two progress lines.
        eval_every: steps between two evaluations on held-out images.
        save_every: steps between two checkpoints.
        tensorboard: write TensorBoard events into the run's folder.
    """

    progress_every: int = 100
    eval_every: int = 500
    save_every: int = 500
    tensorboard: bool = False

    def __post_init__(self):
        at_least_1(**fields(self, "progress_every", "eval_every", "save_every"))


@dataclass(frozen=True)
class TriesConfig:
    """How often a training is tried.

    Attributes:
        seeds: number of trainings, with this seed and the next ones. The one with the best held-out
            ELBO is kept; labels are not used.
        restarts: largest number of new initialisations of a training that has collapsed.
    """

    seeds: int = 1
    restarts: int = 2

    def __post_init__(self):
        at_least_1(seeds=self.seeds)
        if self.restarts < 0:
            raise InputError("restarts", "must be at least 0", self.restarts)


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Raises:
        InputError: if two settings exclude each other.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    anneal: AnnealConfig = field(default_factory=AnnealConfig)
    progress: ProgressConfig = field(default_factory=ProgressConfig)
    tries: TriesConfig = field(default_factory=TriesConfig)
    pictures: PictureConfig = field(default_factory=PictureConfig)

    def __post_init__(self):
        if self.train.estimator in NEED_MASKS and not self.model.masking:
            rule = "must be score without masking (the count is summed over masked programs)"
            raise InputError("estimator", rule, self.train.estimator)
        if self.train.seed + self.tries.seeds > 2**32:
            rule = f"must leave room for {self.tries.seeds} seeds below 2**32"
            raise InputError("seed", rule, self.train.seed)
        if self.model.z_pres_prior_raw and self.anneal.anneal_prior_to >= 1:
            raise InputError(
                "anneal_prior_to", "must be below 1, as raw", self.anneal.anneal_prior_to
            )

    def restarted(self, n: int) -> "Config":
        """The settings after n restarts: another seed, derived from the first one."""
        if n == 0:
            return self
        seed = int(np.random.SeedSequence([self.train.seed, n]).generate_state(1)[0])
        return replace(self, train=replace(self.train, seed=seed))
