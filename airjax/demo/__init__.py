"""The page of ``airjax demo``: draw digits, or upload pictures, and see what AIR finds.

Its content comes from plain functions, from images to arrays to HTML (`airjax.demo.reader`,
`airjax.demo.drawing`, `airjax.demo.uploads`, `airjax.demo.examples`, `airjax.demo.downloads`,
`airjax.demo.dreams`, `airjax.demo.views`); only `airjax.demo.page`, its tabs and
`airjax.demo.server` use gradio.
"""
