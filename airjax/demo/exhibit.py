"""What the page shows of a run, computed once when it starts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from airjax.air import AIR
from airjax.data import DATASETS
from airjax.data.signal import channel
from airjax.demo import dreams, views
from airjax.demo.answer import Answer
from airjax.demo.drawing import Brush
from airjax.demo.examples import Example, of_files, of_images
from airjax.demo.reader import MOST_PATHS, Reader
from airjax.demo.uploads import Subject, as_it_is
from airjax.errors import InputError
from airjax.inference import out_of_distribution
from airjax.inference.regions import regions
from airjax.training import runs

UNLIKE = "This looks unlike what the model was trained on: {why}. The count is probably wrong."
SAMPLED = 6 * MOST_PATHS  # images that typical objects and their codes are taken from


@dataclass(frozen=True)
class Exhibit:
    """A trained run, and what the page needs.

    Attributes:
        run: the run.
        reader: of its model.
        finder: reads pictures of any size with it, as ``airjax predict`` does.
        images: uint8 ``[N, H, W]``, held out from the training; drawn from the model if the run's
            data cannot be read.
        held_out: whether they are held-out images.
        brush: the typical object.
        codes: of the objects found in the images.
        examples: held-out pictures to click on; none if the run's data cannot be read.
        first: what the page shows at first.
    """

    run: runs.Run
    reader: Reader
    finder: AIR
    images: UInt8[np.ndarray, "N H W *C"]
    held_out: bool
    brush: Brush
    codes: dreams.Codes
    examples: list[Example]
    first: Subject

    @classmethod
    def of(cls, run: runs.Run, data_dir: Path | None = None) -> "Exhibit":
        """Loads a run's model and reads some of its held-out images.

        Raises:
            InputError: if the model cannot be loaded.
        """
        reader = Reader(*run.load(), run.config.train.seed)
        try:
            images, held_out = run.data(None, None, data_dir).images, True
        except InputError:  # moved or removed: drawing and dreaming need no data
            made = reader.air.sample(SAMPLED)
            images, held_out = np.round(255 * np.clip(made, 0, 1)).astype(np.uint8), False
        scenes = reader.all(images[:SAMPLED])
        shape, data = reader.model.config.image_shape, Path(run.config.train.data)
        examples = list[Example]()
        if held_out:
            is_folder = run.config.train.data not in DATASETS and data.is_dir()
            pictures = run.config.pictures
            examples = of_files(data, pictures, shape) if is_folder else of_images(images)
        i = int(np.argmax(scenes.counts >= 2))  # an image with something to see
        first = as_it_is(images[i], f"scene-{i}")
        if run.config.pictures.crop and examples:  # not a crop, but a whole picture
            first = examples[0].subject()
        brush, codes = Brush.of(scenes), dreams.codes_of(scenes)
        finder = AIR.of(*run.load(), random_state=run.config.train.seed)
        return cls(run, reader, finder, images, held_out, brush, codes, examples, first)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: ``(H, W)`` or ``(H, W, C)``."""
        return self.reader.model.config.image_shape

    @property
    def of_pictures(self) -> bool:
        """Whether the run was trained on picture files: then it was decided how to read them."""
        pictures = self.run.config.pictures
        return pictures.channel != "auto" or pictures.anew

    def found(self, subject: Subject, num_paths: int) -> Answer:
        """What is found in a picture: in one of any size as ``airjax predict`` finds it,
        otherwise as it does with ``--num-paths`` K."""
        model, html, limit = self.reader.model, "", None
        if subject.any_size:
            objects = self.finder.find(subject.image)
            explained = out_of_distribution.of_picture(model, subject.image, objects)
        else:
            scene = self.reader(subject.image, num_paths)
            objects, html, limit = scene[0], views.seen(scene), model.config.model_steps
            (explained,) = out_of_distribution.of_scenes(scene)
        why = self.run.usual.unlike(explained, objects.number)
        doubts = [UNLIKE.format(why=why)] if why else []
        read, values = subject.read, channel(subject.read.frame, subject.channel)
        measured = regions(model, objects, read.placement, values)
        return Answer(subject, objects, measured, html, doubts, limit)

    def facts(self) -> dict[str, str]:
        """The run in a few words."""
        config, model = self.run.config, self.reader.model.config
        found = {
            "run": self.run.path.name,
            "data": Path(config.train.data).name,
            "images": " x ".join(map(str, model.image_shape)),
            "most objects": str(model.model_steps),
            "estimator": config.train.estimator,
            "seed": str(config.train.seed),
        }
        if self.run.collapsed is not None:
            found["this training has collapsed"] = self.run.collapsed
        if (self.run.path / "evaluation.json").exists():
            report = self.run.report()
            found["held-out ELBO"] = f"{report['elbo']:.1f} nats an image"
            if "count_accuracy" in report:
                n, accuracy = report["settings"]["n"], 100 * report["count_accuracy"]
                found["held-out count accuracy"] = f"{accuracy:.2f} % of {n} images"
        return found
