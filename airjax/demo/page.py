"""The page: of a run, with three tabs, of several runs to choose from, or of a guide of solids."""

from pathlib import Path

import gradio as gr

from airjax.demo import dream_tab, see_tab, solids_tab, views
from airjax.demo.exhibit import Exhibit
from airjax.demo.run_choice import RunChoice
from airjax.demo.solids import SolidsExhibit
from airjax.errors import InputError

TITLE = "airjax: what AIR sees"


def page(shown: RunChoice | SolidsExhibit) -> gr.Blocks:
    """The page of a run, of several to choose from, or of a guide of solids."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        if isinstance(shown, SolidsExhibit):
            gr.HTML(views.header(TITLE, shown.name, "solids on a table"))
            solids_tab.build(shown)
        elif len(shown.runs) == 1:
            _build(shown.exhibit())
        else:
            shown.exhibit()  # now, not while the first user waits
            _to_choose_from(shown)
    return blocks


def _to_choose_from(runs: RunChoice) -> None:
    """The runs, and the one that was chosen; it starts anew."""
    choice = gr.Dropdown(runs.choices, value=0, label="Run", elem_id="run")

    @gr.render(inputs=[choice])
    def _(i: int) -> None:
        try:
            exhibit = runs.exhibit(i)
        except InputError as error:
            gr.HTML(views.message(str(error)))
        else:
            _build(exhibit)


def _build(exhibit: Exhibit) -> None:
    """The header and the tabs of a run."""
    run, train = exhibit.run, exhibit.run.config.train
    gr.HTML(views.header(TITLE, run.path.name, Path(train.data).name, run.collapsed))
    with gr.Tabs(selected="see"):
        with gr.Tab("See", id="see"):
            see_tab.build(exhibit)
        with gr.Tab("Dream", id="dream"):
            dream_tab.build(exhibit)
        with gr.Tab("Learning", id="learning"):
            gr.HTML(_learning(exhibit))


def _learning(exhibit: Exhibit) -> str:
    facts = views.facts(exhibit.facts())
    try:
        return views.curves(exhibit.run.rows()) + facts
    except InputError:  # of a model that was imported, say
        return views.message("This run has no metrics: it was not trained here.") + facts
