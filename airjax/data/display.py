"""Pictures as a person looks at them: upright, in colours or one channel, contrast stretched."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from airjax.data.decode import Frame
from airjax.data.signal import channel

SMALL = 256  # pixels of the larger side up to which a picture is a PNG, not a JPEG
DARKEST, BRIGHTEST = 0.1, 99.9  # percentiles that become black and white


def viewable(frame: Frame, name: str, side: int) -> UInt8[np.ndarray, "H W *C"]:
    """A picture as bytes, in colours or the channel that is read, with its contrast stretched.

    Args:
        frame: of the file.
        name: of the channel that is read, as in `airjax.picture_config.PictureConfig`.
        side: pixels of the larger side, at most.
    """
    step = max(1, max(frame.pixels.shape[:2]) // (2 * side))  # the rest by a filter
    thin = frame._replace(pixels=frame.pixels[::step, ::step])
    in_colour = frame.is_colour and name in ("grey", "colour", "all")
    values = channel(thin, "all" if in_colour else name)
    if values.ndim == 3 and not in_colour:
        values = values.max(-1)
    black, white = (float(level) for level in np.percentile(values, [DARKEST, BRIGHTEST]))
    values = (values - black) / max(white - black, 1e-6)
    if frame.alpha is not None:
        alpha = frame.alpha[::step, ::step]
        values = values * (alpha if values.ndim == 2 else alpha[..., None])
    image = Image.fromarray(np.round(255 * values.clip(0, 1)).astype(np.uint8))
    image.thumbnail((side, side))
    return np.asarray(image)


def address(pixels: UInt8[np.ndarray, "H W *C"]) -> str:
    """A picture as a ``data:`` address: no file of it is written."""
    content = io.BytesIO()
    kind = "png" if max(pixels.shape[:2]) <= SMALL else "jpeg"
    Image.fromarray(pixels).save(content, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
