"""The flags of ``airjax predict`` for ready models: how pictures are read that no run has seen."""

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from airjax.data.ready import Asked
from airjax.errors import InputError
from airjax.models import READY
from airjax.object_size import pixels
from airjax.picture_config import PictureConfig

if TYPE_CHECKING:
    from airjax.training.runs import Run


def _flag(metavar: str) -> Any:
    return arg(metavar=metavar, help_behavior_hint="(default: decided from the pictures)")


@dataclass(frozen=True)
class PictureFlags:
    """How pictures are read with a ready model, which no training has seen. (A run has decided
    this.)

    Attributes:
        object_size: Typical size of the objects (their larger side) in pixels of the files.
        channel: The channel that is read: grey (luminance), max (the largest of all), or a number
            from 0.
        invert: Whether objects are dark on bright; picture decides it for each.
        normalise: Which intensities become black and white: none is those of the file's type,
            folder the same for all pictures, picture those of each picture.
        scale: Pixels of the image for one of the picture; picture gives each picture its own.
        background: local subtracts what varies slowly in each picture, lines also long straight
            lines.
        pages: What the pages of a file are: each a picture, or all together one.
    """

    object_size: Annotated[str | None, _flag("FLOAT|LOW-HIGH")] = None
    channel: Annotated[str | None, _flag("NAME|N")] = None
    invert: Annotated[Literal["yes", "no", "picture"] | None, _flag("{yes,no,picture}")] = None
    normalise: Annotated[
        Literal["none", "folder", "picture"] | None, _flag("{none,folder,picture}")
    ] = None
    scale: Annotated[float | Literal["picture"] | None, _flag("FLOAT|picture")] = None
    background: Annotated[Literal["none", "local", "lines"] | None, _flag("{none,local,lines}")] = (
        None
    )
    pages: Annotated[
        Literal["each", "first", "max", "mean"] | None, _flag("{each,first,max,mean}")
    ] = None

    def of(self, run: "Run") -> tuple[PictureConfig, Asked]:
        """The settings of pictures for a run or a ready model.

        Raises:
            InputError: if a flag breaks its rule, or the run has decided it.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not run.config.pictures.anew:
            for name, value in given.items():
                rule = f"must be left out for a run, which decided it; {' and '.join(READY)} do not"
                raise InputError(name, rule, value)
            return run.config.pictures, Asked()
        size = pixels(self.object_size)
        if self.object_size is not None and size is None:
            rule = "must be a number of pixels, or a range as 8-14"
            raise InputError("object_size", rule, self.object_size)
        if self.channel in ("colour", "all") and run.config.model.channels == 1:
            rule = "must be grey, max or a number from 0: the model reads one channel"
            raise InputError("channel", rule, self.channel)
        names = {field.name for field in fields(PictureConfig)}
        settings = {name: value for name, value in given.items() if name in names}
        asked = Asked(size, self.background or "auto")
        return replace(run.config.pictures, **settings), asked
