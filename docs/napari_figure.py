"""The picture of the plugin in docs/viewers.md: a viewer with what a run finds in a picture.

    xvfb-run -s "-screen 0 1400x900x24" python docs/napari_figure.py RUN PICTURE FIGURE

It needs ``pip install -e ".[napari]"`` and, on Debian, the packages xvfb, xauth and those of Qt's
plugin xcb (``apt-get install libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
libxcb-render-util0 libxcb-shape0 libxkbcommon-x11-0``).
"""

import sys
import time

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

SIZE = (1150, 720)


def main(run: str, picture: str, figure: str) -> None:
    """Writes the picture."""
    viewer = napari.Viewer(show=False)
    viewer.open(picture, plugin="napari", layer_type="image")
    _, widget = viewer.window.add_plugin_dock_widget("airjax", "Find objects")
    widget.run.line_edit.value = run
    viewer.window.resize(*SIZE)
    viewer.show()
    widget.button.clicked.emit(True)
    while widget.worker is not None:
        QApplication.processEvents()
        time.sleep(0.05)
    viewer.reset_view()
    QApplication.processEvents()
    window = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    window.quantize(128).save(figure, optimize=True)
    print(f"{widget.said.value}; layers: {', '.join(layer.name for layer in viewer.layers)}")
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
