"""A plugin for napari: an image layer is read with the model of a run. See ``docs/viewers.md``.

napari finds it by the manifest ``napari.yaml`` in this folder.
"""
