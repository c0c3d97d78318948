"""Reading images: the posterior over the count, and where the objects are.

Every image has a random key of its own, made from its pixels, so the results depend neither on the
size of the batches nor on the other images.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key, UInt8, UInt32

from airjax.console import tracked
from airjax.errors import InputError
from airjax.inference.explained import VISIBLE, shown, tight_boxes, unexplained, weakest
from airjax.inference.reading import FOUND, Reading, joined
from airjax.inference.second_look import Explainer, refined
from airjax.precision import in_32_bits
from airjax.programs.compose import composed, segments
from airjax.programs.elbo import CountELBO, counts_on_a_path
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.programs.spatial import window_boxes

BATCH = 500  # images read at a time: bounds the memory
FEW, ROWS = 8, 64  # images that a program is compiled for: for a few, and for more on a CPU
# an image gets a second look if more nats are unexplained, or an object explains fewer
DOUBTFUL = 80.0


def read(
    model: Model,
    guide: Guide,
    images: UInt8[np.ndarray, "N H W *C"],
    seed: int = 0,
    num_paths: int = 10,
    z_pres_prior: Float[Array, " T"] | None = None,
    second_look: bool | None = None,
    title: str | None = None,
    fields: tuple[str, ...] = Reading._fields,
) -> Reading:
    """Reads images in batches of bounded memory. Absent objects are masked, however the programs
    were trained.

    Args:
        model: trained generative program.
        guide: trained guide.
        images: bytes.
        seed: of the guide's samples.
        num_paths: K, the paths of the guide that counts and ELBO are averaged over.
        z_pres_prior: p_t of the model, for the ELBO (default: its config's).
        second_look: whether counts and objects are those of `airjax.inference.second_look`; None
            for images that are doubtful: more than ``DOUBTFUL`` nats are unexplained, or one of
            several objects explains fewer (see `which_look`).
        title: of the progress that is displayed; None displays none.
        fields: of the reading; the others are not computed.

    Raises:
        InputError: if there are no images, or a second look is asked for and the guide reads no
            windows.
    """

    if len(images) == 0:
        raise InputError("images", "must hold an image or more", 0)
    chunks = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    chunks = chunks if title is None else tracked(chunks, title, len(images), len)
    how = seed, num_paths, second_look, z_pres_prior
    return joined(list(read_stream(model, guide, chunks, fields, *how)))


def masked(model: Model, guide: Guide) -> tuple[Model, Guide]:
    """The programs, with the sites of absent objects masked."""
    config = dataclasses.replace(model.config, masking=True)
    return dataclasses.replace(model, config=config), dataclasses.replace(guide, config=config)


def in_batches(
    program: Callable[[UInt8[Array, "N H W *C"], Key[Array, " N"]], Any],
    images: UInt8[np.ndarray, "N H W *C"],
    seed: int,
    title: str | None = None,
) -> Any:
    """The results of a program of images and their keys, of any structure, with a row an image.

    Raises:
        InputError: if there are no images.
    """
    if len(images) == 0:
        raise InputError("images", "must hold an image or more", 0)
    chunks = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    chunks = chunks if title is None else tracked(chunks, title, len(images), len)
    return joined(list(stream(program, chunks, seed)))


def stream(
    program: Callable[[UInt8[Array, "N H W *C"], Key[Array, " N"]], Any],
    chunks: Iterable[UInt8[np.ndarray, "_ H W *C"]],
    seed: int,
) -> Iterator[Any]:
    """The results of each chunk of images in turn. The program is called with ``FEW`` images or
    with many (a CPU gains nothing from more than ``ROWS``): it is compiled at most twice."""
    many = ROWS if jax.default_backend() == "cpu" else BATCH
    for chunk in chunks:
        parts, rows = [], FEW if len(chunk) <= FEW else many
        for start in range(0, len(chunk), rows):
            some = chunk[start : start + rows]
            n = len(some)
            filled = np.pad(some, [(0, rows - n)] + [(0, 0)] * (some.ndim - 1))
            with in_32_bits():
                result = program(jnp.asarray(filled), _keys(np.uint32(seed), _contents(filled)))
                parts.append(jax.tree.map(lambda x, n=n: np.asarray(x)[:n], result))
        yield joined(parts)


def _contents(images: UInt8[np.ndarray, "N H W *C"]) -> UInt32[np.ndarray, " N"]:
    """A checksum of each image's pixels."""
    return np.array([zlib.crc32(image.tobytes()) for image in images], np.uint32)


@jax.jit
def _keys(seed: UInt32[ArrayLike, ""], contents: UInt32[ArrayLike, " N"]) -> Key[Array, " N"]:
    """A random key for each image, whatever other images there are."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(contents)


@partial(jax.jit, static_argnums=1)
def _split(keys: Key[Array, " N"], num_paths: int) -> Key[Array, "N keys"]:
    """The keys of K paths of each image, after one of its sampled count. Those of fewer paths are
    the first ones of those of more."""
    return jax.vmap(lambda key: jax.random.split(key, num_paths + 1))(keys)


def read_paths(
    model: Model, guide: Guide, image: UInt8[np.ndarray, "H W *C"], seed: int = 0
) -> Reading:
    """One image, read ``ROWS`` times, each time along another single path of the guide; with the
    program that `read_stream` compiles for one path. The first K of them are the paths that `read`
    with ``num_paths`` K averages over.

    Args:
        model: trained generative program.
        guide: trained guide.
        image: bytes.
        seed: of the guide's samples.

    Returns:
        the fields ``FOUND``, a row a path.
    """
    with in_32_bits():
        own = _split(_keys(np.uint32(seed), _contents(image[None])), ROWS)[0]
        keys = jnp.stack([jnp.broadcast_to(own[0], ROWS), own[1:]], axis=1)
        copies = jnp.asarray(np.repeat(image[None], ROWS, axis=0))
        found = _read_batch(*masked(model, guide), copies, keys, None, FOUND, False)
        return jax.tree.map(np.asarray, found)


def read_stream(
    model: Model,
    guide: Guide,
    chunks: Iterable[UInt8[np.ndarray, "_ H W *C"]],
    fields: tuple[str, ...],
    seed: int = 0,
    num_paths: int = 5,
    second_look: bool | None = False,
    z_pres_prior: Float[Array, " T"] | None = None,
) -> Iterator[Reading]:
    """As `read`, chunk by chunk.

    Args:
        model: trained generative program.
        guide: trained guide.
        chunks: of images.
        fields: of the readings, for example ``FOUND``; the others are not computed.
        seed: of the guide's samples.
        num_paths: K, the paths of the guide that counts and ELBO are averaged over.
        second_look: as in `read`; None needs ``count_probs``, ``unexplained`` and ``weakest``.
        z_pres_prior: p_t of the model, for the ELBO (default: its config's).

    Raises:
        InputError: if a second look is asked for and the guide reads no windows.
    """
    if second_look and guide.config.guide == "basic":
        rule = "must be off for the guide basic, which reads no windows"
        raise InputError("second_look", rule)

    def one_batch(images, keys):
        programs, look = masked(model, guide), bool(second_look)
        return _read_batch(*programs, images, _split(keys, num_paths), z_pres_prior, fields, look)

    if which_look(guide, second_look) is not None:
        yield from stream(one_batch, chunks, seed)
        return
    kept: list[UInt8[np.ndarray, "_ H W *C"]] = []

    def keeping() -> Iterator[UInt8[np.ndarray, "_ H W *C"]]:
        for images in chunks:
            kept.append(images)
            yield images

    for reading in stream(one_batch, keeping(), seed):
        yield looked_again(model, guide, reading, kept.pop(0))


def which_look(guide: Guide, second_look: bool | None) -> bool | None:
    """The second look that is meant by None: at doubtful images, but at none where the guide reads
    no windows, or objects hide others. There, what an object hides is a hole in the image less that
    object, and what is read in it explains less than what was read at first."""
    off = guide.config.guide == "basic" or guide.config.compose == "over"
    return False if second_look is None and off else second_look


def looked_again(
    model: Model, guide: Guide, reading: Reading, images: UInt8[np.ndarray, "n H W *C"]
) -> Reading:
    """A reading with a second look at doubtful images: those in which an object may be two, or one
    of several may be none.

    Args:
        model: trained generative program.
        guide: trained guide; one that reads windows.
        reading: of the images, without a second look; ``elbo`` and ``sampled_count`` stay.
        images: bytes.
    """
    most = reading.count_probs.shape[1] - 1
    splits = (reading.unexplained > DOUBTFUL) & (reading.count > 0) & (reading.count < most)
    doubtful = np.flatnonzero(splits | ((reading.weakest < DOUBTFUL) & (reading.count > 1)))
    kept = {k for k, v in reading._asdict().items() if v is not None} - {"elbo", "sampled_count"}
    changed = reading._asdict() | {name: getattr(reading, name).copy() for name in kept}
    for i in range(0, len(doubtful), FEW):
        rows = doubtful[i : i + FEW]
        filled = np.resize(rows, FEW)  # the program reads this many at a time
        with in_32_bits():
            found = _look_again(
                *masked(model, guide), jnp.asarray(images[filled]),
                jnp.asarray(reading.count_probs[filled]), tuple(sorted(kept)),
            )  # fmt: skip
        for name, values in found.items():
            changed[name][rows] = np.asarray(values)[: len(rows)]
    return Reading(**changed)


@eqx.filter_jit
def _look_again(
    model: Model,
    guide: Guide,
    images: UInt8[Array, "N H W *C"],
    count_probs: Float[Array, "N counts"],
    fields: tuple[str, ...],
) -> dict[str, Array]:
    def one(image, probs):
        image = image.astype(jnp.float32) / 255
        reading = _with_counts(*_of(model, guide, image), image, probs, True)
        return {name: getattr(reading, name) for name in fields}

    return jax.vmap(one)(images, count_probs)


@eqx.filter_jit
def _read_batch(
    model: Model,
    guide: Guide,
    images: UInt8[Array, "N H W *C"],
    keys: Key[Array, "N keys"],
    z_pres_prior: Float[Array, " T"] | None,
    fields: tuple[str, ...],
    second_look: bool,
) -> Reading:
    def one(image, key):
        image = image.astype(jnp.float32) / 255
        reading = _read_one(model, guide, image, key, z_pres_prior, second_look)
        return Reading(**{name: getattr(reading, name) for name in fields})

    return jax.vmap(one)(images, keys)


def _read_one(
    model: Model,
    guide: Guide,
    image: Float[Array, "H W *C"],
    keys: Key[Array, " keys"],
    z_pres_prior: Float[Array, " T"] | None,
    second_look: bool,
) -> Reading:
    """The `Reading` of one image, without the leading axis; keys of the sampled count and of K
    paths."""
    images, (sample_key, path_keys) = image[None], (keys[0], keys[1:])
    model, guide = _of(model, guide, image)

    def on_path(key):
        return counts_on_a_path(key, {}, model, guide, images, z_pres_prior)

    log_q_n, log_w_n, scale = jax.vmap(on_path)(path_keys)
    count_probs = jnp.exp(log_q_n).mean(0)[:, 0]
    reading = _with_counts(model, guide, image, count_probs, second_look)
    return reading._replace(
        elbo=CountELBO().bound(log_q_n, log_w_n, scale[0])[0],
        sampled_count=jax.random.categorical(sample_key, log_q_n[0, :, 0]),
    )


def _of(model: Model, guide: Guide, image: Float[Array, "H W *C"]) -> tuple[Model, Guide]:
    """The programs of an image: with its own background, if it has one."""
    likelihood = model.likelihood.of(image)
    return dataclasses.replace(model, likelihood=likelihood), guide.of(image)


def _with_counts(
    model: Model,
    guide: Guide,
    image: Float[Array, "H W *C"],
    count_probs: Float[Array, " counts"],
    second_look: bool,
) -> Reading:
    """The reading of one image with these probabilities of counts, but for what is drawn."""
    steps, size = guide.config.model_steps, guide.config.image_size
    objects = Explainer(model, guide, image).read(image, steps)
    if second_look:
        tiny = jnp.finfo(count_probs.dtype).tiny
        log_q = jnp.log(jnp.maximum(count_probs, tiny))
        count_probs, objects = refined(model, guide, image, log_q)
    z_where, z_what, y = objects.z_where, objects.z_what, objects.y
    present = jnp.arange(steps) < count_probs.argmax()
    mean = model.likelihood.mean(composed(model.config.compose, y, present))
    return Reading(
        count_probs=count_probs,
        z_where=z_where,
        z_what=z_what,
        windows=model.decoder(z_what),
        window_boxes=window_boxes(z_where, size),
        tight_boxes=tight_boxes(shown(model, image, y, present), window_boxes(z_where, size)),
        reconstruction=mean,
        unexplained=unexplained(model, image, mean),
        weakest=weakest(model, image, y, present),
        segments=segments(model.config.compose, y, present, VISIBLE).astype(jnp.uint8),
    )
