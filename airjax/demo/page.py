"""The page: of a run, with three tabs, or of a guide of solids."""

from pathlib import Path

import gradio as gr

from airjax.demo import dream_tab, see_tab, solids_tab, views
from airjax.demo.exhibit import Exhibit
from airjax.demo.solids import SolidsExhibit
from airjax.errors import InputError

TITLE = "airjax: what AIR sees"


def page(exhibit: Exhibit | SolidsExhibit) -> gr.Blocks:
    """The page of a run, or of a guide of solids."""
    if isinstance(exhibit, SolidsExhibit):
        with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
            gr.HTML(views.header(TITLE, exhibit.name, "solids on a table"))
            solids_tab.build(exhibit)
        return blocks
    run, train = exhibit.run, exhibit.run.config.train
    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        gr.HTML(views.header(TITLE, run.path.name, Path(train.data).name, run.collapsed))
        with gr.Tab("See"):
            see_tab.build(exhibit)
        with gr.Tab("Dream"):
            dream_tab.build(exhibit)
        with gr.Tab("Learning"):
            gr.HTML(_learning(exhibit))
    return blocks


def _learning(exhibit: Exhibit) -> str:
    facts = views.facts(exhibit.facts())
    try:
        return views.curves(exhibit.run.rows()) + facts
    except InputError:  # of a model that was imported, say
        return views.message("This run has no metrics: it was not trained here.") + facts
