"""What was found as layers beside the image layer: masks, boxes and points."""

import hashlib
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from airjax.inference.writers import OBJECT
from airjax.napari.planes import Planes
from airjax.napari.reading import Found

if TYPE_CHECKING:
    from napari.layers import Image, Layer

CENTRE = 0.5  # napari has the centre of the first pixel at 0, airjax its corner
PLACED = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
MARKS = {"masks": "_masks", "boxes": "_boxes", "points": "_points"}  # behind the image's name
COLOUR = "yellow"
FEATURES = [name for name in OBJECT if name not in ("file", "page", "count", "probability")]


class Own(NamedTuple):
    """A layer that was made here.

    Attributes:
        image: a reference to the one that it belongs to.
        kind: of ``MARKS``.
        digest: of its data as they were written.
    """

    image: "weakref.ref[Image]"
    kind: str
    digest: str


# by the layers themselves: a copy that the user makes of one is the user's
_own: "weakref.WeakKeyDictionary[Layer, Own]" = weakref.WeakKeyDictionary()


def show(viewer: Any, image: "Image", planes: Planes, found: Found) -> list[str]:
    """Shows what was found in the layers that were made for the image before, or in new ones.
    Layers that the user has changed stay as they are.

    Args:
        viewer: napari's.
        image: that was read.
        planes: of it.
        found: in them.

    Returns:
        the names of layers that the user has changed.
    """
    changed, side = list[str](), _typical_side(found)
    placed = {name: getattr(image, name) for name in PLACED}
    data = {
        "masks": _masks(planes, found), "boxes": _boxes(found), "points": _points(found),
    }  # fmt: skip
    for kind, values in data.items():
        layer = next((one for one in viewer.layers if _belongs(one, image, kind)), None)
        if layer is not None and _digest(layer, kind) != _own[layer].digest:
            changed.append(layer.name)
            del _own[layer]
            layer = None
        if layer is None:
            layer = _new(kind, f"{image.name}{MARKS[kind]}", values, image.ndim, side, placed)
            layer = viewer.add_layer(layer)
        else:
            _update(layer, kind, values)
            for name, value in placed.items():
                setattr(layer, name, value)
        if kind != "masks":
            layer.features = _features(found)
        _own[layer] = Own(weakref.ref(image), kind, _digest(layer, kind))
    return changed


def _belongs(layer: "Layer", image: "Image", kind: str) -> bool:
    own = _own.get(layer)
    return own is not None and own.image() is image and own.kind == kind


def _digest(layer: Any, kind: str) -> str:
    """Of the data of a layer: it changes when the user edits them."""
    parts = layer.data if kind == "boxes" else [layer.data]
    content = hashlib.sha256()
    for part in parts:
        content.update(str(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    return content.hexdigest()


def _new(
    kind: str, name: str, values: Any, ndim: int, side: float, placed: dict[str, Any]
) -> "Layer":
    """A layer of a kind; marks have a size that suits objects of a typical side in pixels."""
    from napari.layers import Labels, Points, Shapes  # slow to import

    if kind == "masks":
        return Labels(values, name=name, opacity=0.4, **placed)
    width: dict[str, Any] = {"name": name, "ndim": ndim, **placed}
    if kind == "boxes":
        look: dict[str, Any] = {"face_color": "transparent", "edge_color": COLOUR}
        look["edge_width"] = side / 20
        return Shapes(values, shape_type="rectangle", **look, **width)
    look = {"face_color": COLOUR, "border_color": "black", "size": side / 4}
    return Points(values, **look, **width)


def _update(layer: Any, kind: str, values: Any) -> None:
    if kind == "boxes":
        layer.data = []  # the new ones are rectangles, too
        layer.add_rectangles(values)
    else:
        layer.data = values


def _masks(planes: Planes, found: Found) -> np.ndarray:
    """The label images of `airjax.inference.writers.Picture`, ``[..., H, W]``."""
    images = {at: picture.labels() for at, picture in found.pictures.items()}
    kind = np.result_type(np.uint16, *images.values())
    values = np.zeros((*planes.shape, *planes.size), kind)
    for at, labels in images.items():
        values[at] = labels
    return values


def _boxes(found: Found) -> list[np.ndarray]:
    """The corners of each box, ``[4, ndim]``."""
    corners = [(1, 0), (1, 2), (3, 2), (3, 0)]  # y and x: top left, top right, ...
    return [
        np.array([[*at, box[y] - CENTRE, box[x] - CENTRE] for y, x in corners])
        for at, picture in found.pictures.items()
        for box in picture.objects.tight_boxes
    ]


def _points(found: Found) -> np.ndarray:
    """The centre of each object, ``[n, ndim]``; of one without a pixel, that of its box."""
    points, ndim = list[list[float]](), 2
    for at, picture in found.pictures.items():
        ndim = len(at) + 2
        for box, region in zip(picture.objects.tight_boxes, picture.regions, strict=True):
            x, y = region.centre if region.area else ((box[:2] + box[2:]) / 2).tolist()
            points.append([*at, y - CENTRE, x - CENTRE])
    return np.array(points, float).reshape(-1, ndim)


def _features(found: Found) -> dict[str, list[Any]]:
    """The columns of ``objects.csv`` that differ from object to object, and ``label``, the number
    in the mask."""
    rows = [
        dict(zip(OBJECT, row, strict=True))
        for picture in found.pictures.values()
        for row in picture.rows()
    ]
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    return {"label": [row["object"] + 1 for row in rows], **columns}


def _typical_side(found: Found) -> float:
    """The median of the larger sides of all boxes in pixels; 20 without any."""
    boxes = [picture.objects.tight_boxes for picture in found.pictures.values()]
    sides = [(box[:, 2:] - box[:, :2]).max(1) for box in boxes if len(box)]
    return max(4.0, float(np.median(np.concatenate(sides)))) if sides else 20.0
