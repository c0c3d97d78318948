"""The widget: an image layer, a run, a threshold, and a button that reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, FloatSpinBox, Label, PushButton

from airjax.cli.flags import flag
from airjax.cli.runs import LAST
from airjax.errors import InputError
from airjax.napari.layers import show
from airjax.napari.planes import At, Planes
from airjax.napari.reading import Found, read

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

RUN = (
    "Folder of a run of airjax train; last is the newest one in runs/ of the folder in which "
    "napari was started."
)
READ, READING = "Find objects", "Reading ..."


class Read(Container):
    """Finds the objects in an image layer with the model of a run.

    Args:
        napari_viewer: whose layers are read, and which gets the layers of what was found. By this
            name, napari gives its own.

    Attributes:
        found: what was found last, and None before.
        worker: that reads in a thread of its own, and None while nothing is read.
    """

    def __init__(self, napari_viewer: "Viewer"):
        # plugins get a proxy, whose layers are new objects each time
        self.viewer = viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.layer = ComboBox(label="image", choices=self._images, tooltip="The layer to read.")
        self.run = FileEdit(
            label="run", mode=FileDialogMode.EXISTING_DIRECTORY, value=Path(LAST), tooltip=RUN
        )
        self.threshold = FloatSpinBox(
            label="threshold", value=0.0, min=0.0, max=1.0, step=0.05,
            tooltip="Objects with a lower score are left out.",
        )  # fmt: skip
        self.button = PushButton(text=READ)
        self.said = Label(value="")
        self.found: Found | None = None
        self.worker: Any = None
        super().__init__(
            widgets=[self.layer, self.run, self.threshold, self.button, self.said]
        )  # fmt: skip
        self._read: Image | None = None
        self.button.changed.connect(self.start)
        viewer.layers.events.inserted.connect(self._layers_changed)
        viewer.layers.events.removed.connect(self._layers_changed)
        viewer.dims.events.current_step.connect(self._say)

    def start(self) -> None:
        """Reads the chosen layer in a thread of its own."""
        from napari.qt.threading import create_worker  # slow to import
        from napari.utils.notifications import show_error

        image = self.layer.value
        if image is None:
            show_error(_line(InputError("image", "must be an image layer; the viewer has none")))
            return
        planes = Planes(image)
        self.button.text, self.button.enabled = READING, False
        asked = planes, Path(str(self.run.value)), self.threshold.value
        # of a decorated function, as where types are checked, napari would not see that it yields
        self.worker = create_worker(
            lambda: (yield from _reading(*asked)),  # pyright: ignore[reportReturnType]
            _connect={"returned": lambda found: self._done(image, planes, found)},
            _progress={"total": len(planes), "desc": f"reading {image.name}"},
            _start_thread=False,
        )
        self.worker.finished.connect(self._ended)
        self.worker.start()

    def _images(self, _: Any) -> "list[Image]":
        from napari.layers import Image

        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def _layers_changed(self, _: Any) -> None:
        self.layer.reset_choices()

    def _ended(self) -> None:
        self.worker = None
        self.button.text, self.button.enabled = READ, True

    def _done(self, image: "Image", planes: Planes, found: Found | str) -> None:
        from napari.utils.notifications import show_error, show_info, show_warning

        if isinstance(found, str):
            show_error(found)
            return
        if image not in self.viewer.layers:  # removed meanwhile
            return
        changed = show(self.viewer, image, planes, found)
        self.found, self._read = found, image
        self._say()
        show_info(f"{image.name}: {found.said(self._plane())}")
        kept = [f"changed by hand, and kept: {', '.join(changed)}"] if changed else []
        for note in [*found.notes, *kept]:
            show_warning(f"airjax: {note}")

    def _plane(self) -> At:
        """The index of the plane that the viewer shows."""
        image = self._read
        if image is None:
            return ()
        point = image.world_to_data(self.viewer.dims.point[-image.ndim :])
        return tuple(round(float(x)) for x in point[:-2])

    def _say(self, _: Any = None) -> None:
        if self.found is not None:
            self.said.value = self.found.said(self._plane())
            self.viewer.status = self.said.value


def _reading(planes: Planes, run: Path, threshold: float) -> Any:
    """`read`; of a mistake of the user, the line: napari shows exceptions as defects."""
    try:
        return (yield from read(planes, run, threshold))
    except InputError as error:
        return _line(error)


def _line(error: InputError) -> str:
    """The line that the command line would end with."""
    return f"airjax: {' '.join(error.message(flag(error.argument)).splitlines())}"
