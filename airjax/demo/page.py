"""The page: of a run, with three tabs, of several runs to choose from, or of a guide of solids."""

import contextlib
from pathlib import Path

import gradio as gr

from airjax.demo import dream_tab, see_tab, solids_tab, views
from airjax.demo.exhibit import Exhibit
from airjax.demo.page_state import PageState
from airjax.demo.run_choice import RunChoice
from airjax.demo.see_tab import ORDERED, See
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
            see = See(shown.exhibit())
            _build(see, gr.State(first := see.first()), first)
        else:
            _to_choose_from(shown, blocks)
    return blocks


def _to_choose_from(runs: RunChoice, blocks: gr.Blocks) -> None:
    """The runs, and the one that was chosen."""
    first = See(runs.exhibit()).first()  # now, not while the first user waits
    choice = gr.Dropdown(runs.choices, value=0, label="Run", elem_id="run")
    state, shown = gr.State(first), gr.State(0)

    def load(i: int) -> None:
        with contextlib.suppress(InputError):  # the page of the run says why
            runs.exhibit(i)

    def turn(i: int, now: PageState) -> tuple[PageState, int]:
        with contextlib.suppress(InputError):
            now = See(runs.exhibit(i)).turned(now)
        return now, i

    # loaded beforehand: meanwhile the page is still that of the other run, and can be used
    loaded = choice.input(load, choice, trigger_mode="always_last", show_progress_on=choice)
    loaded.then(turn, [choice, state], [state, shown], show_progress="hidden", **ORDERED)

    @gr.render(inputs=[shown, state], triggers=[blocks.load, shown.change])
    def _(i: int, now: PageState) -> None:
        try:
            see = See(runs.exhibit(i))
        except InputError as error:
            gr.HTML(views.message(str(error)))
        else:
            _build(see, state, now)


def _build(see: See, state: gr.State, now: PageState) -> None:
    """The header and the tabs of a run, with what is kept of a user, and its value."""
    exhibit, run = see.exhibit, see.exhibit.run
    data = Path(run.config.train.data).name
    gr.HTML(views.header(TITLE, run.path.name, data, run.collapsed))
    with gr.Tabs(selected="see"):
        with gr.Tab("See", id="see"):
            see_tab.build(see, state, now)
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
