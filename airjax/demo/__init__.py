"""The page of ``airjax demo``: draw digits and see what AIR sees.

What is shown are plain functions, from images to arrays to HTML (`airjax.demo.reader`,
`airjax.demo.drawing`, `airjax.demo.uploads`, `airjax.demo.dreams`, `airjax.demo.views`); only
`airjax.demo.page` and `airjax.demo.server` know of gradio.
"""
