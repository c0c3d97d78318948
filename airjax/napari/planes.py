"""The values of an image layer as files, which are read as ``airjax predict`` reads files.

They are TIFF files in memory, one for each plane of a stack.
"""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import ExifTags, Image

from airjax.data.decode import TIFF
from airjax.data.placement import UPRIGHT

ORIENTATION = int(ExifTags.Base.Orientation)
At = tuple[int, ...]  # the index of a plane along the axes before height and width


class Stored(NamedTuple):
    """What a file says of its values, and an array does not.

    Attributes:
        bits: of a value; None are those of its type.
        white_is_zero: whether values are larger the darker they are.
        orientation: EXIF's number; the array is as stored, not upright.
    """

    bits: int | None = None
    white_is_zero: bool = False
    orientation: int = UPRIGHT

    @classmethod
    def of(cls, path: str | None) -> "Stored":
        """That of a file; of values that have none, or another kind of file, the default."""
        try:
            with open(path or "", "rb") as file:
                is_tiff = file.read(4) in TIFF
            if not is_tiff:
                with Image.open(path or "") as image:
                    return cls(orientation=image.getexif().get(ORIENTATION, UPRIGHT))
            with tifffile.TiffFile(path or "") as tiff:
                page = tiff.pages.first
                bits, tag = page.bitspersample, page.tags.get(ORIENTATION)
                inverse = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
                turned = UPRIGHT if tag is None else int(tag.value)
                return cls(bits if isinstance(bits, int) else max(bits), inverse, turned)
        except Exception:  # decoders raise anything; the layer has its values
            return cls()


class Planes:
    """The planes of an image layer.

    Args:
        layer: napari's Image: ``[..., H, W]``, or ``[..., H, W, 3]`` (or 4) if it is of colours. Of
            several resolutions, the first is read.

    Attributes:
        shape: of the axes before height and width.
        size: height and width.
        at: the index of each plane, by its path, which is a name for messages.
    """

    def __init__(self, layer: Any):
        self.values = layer.data[0] if layer.multiscale else layer.data
        self.rgb, self.stored = bool(layer.rgb), Stored.of(layer.source.path)
        whole = tuple(map(int, self.values.shape[:-1] if self.rgb else self.values.shape))
        self.shape, self.size = whole[:-2], (whole[-2], whole[-1])
        name = f"layer {layer.name}"
        self.at = {Path(f"{name} {list(at)}" if at else name): at for at in np.ndindex(self.shape)}

    def __len__(self) -> int:
        return len(self.at)

    def contents(self, path: Path) -> bytes:
        """The TIFF file of a plane."""
        values = np.asarray(self.values[self.at[path]])
        if values.dtype == bool:
            values = values * np.uint8(255)
        bits, white_is_zero, orientation = self.stored
        how: dict[str, Any] = {"photometric": "miniswhite" if white_is_zero else "minisblack"}
        if self.rgb:
            how = {"photometric": "rgb", "planarconfig": "contig"}
            how |= {"extrasamples": ["unassalpha"]} if values.shape[-1] == 4 else {}
        if bits and values.dtype.kind == "u" and 8 < bits < 8 * values.itemsize <= 16:
            how |= {"bitspersample": bits} if values.max(initial=0) < 2**bits else {}
        if orientation != UPRIGHT:
            how["extratags"] = [(ORIENTATION, "H", 1, orientation, True)]
        file = io.BytesIO()
        tifffile.imwrite(file, values, metadata=None, **how)
        return file.getvalue()
