"""Settings of the documentation's site: ``sphinx-build -j auto -W docs docs/_build/html``.

Nothing is downloaded, neither while it is built nor while it is read.
"""

import re
from collections import _tuplegetter
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import ExtensionError

import airjax

project = "airjax"
author = "The airjax authors"
copyright = author
version = release = airjax.__version__
extensions = [
    "myst_nb", "sphinx_design", "sphinx_copybutton",
    "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode",
]  # fmt: skip
exclude_patterns = ["_build"]
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output are not copied

html_theme = "furo"
html_title = f"airjax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"

# a notebook's own page is its only source: it is executed in every build
nb_execution_mode = "force"
nb_execution_timeout = 600  # seconds a cell
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # messages of libraries about the machine
nb_ipywidgets_js = {}  # otherwise pages may load scripts from other servers
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False

default_role = "py:obj"  # in docstrings `airjax.programs.model` is a link
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_mock_imports = ["magicgui"]  # the plugin for napari is described without a viewer
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
strip_signature_backslash = True  # keeps the last character of `model_`
napoleon_use_ivar = True  # attributes stay in the text of the class
napoleon_attr_annotations = False


def skip_member(app, what, name, member, skip, options):
    """Leaves out the fields of named tuples, which the docstring of the class describes, and
    methods that scikit-learn adds to estimators."""
    return True if isinstance(member, _tuplegetter) or name.endswith("_request") else None


WRITTEN = {  # types at run time, and how they are written in the source
    r"~\w+\.Annotated\[(.+?)"
    r"(?:, (?:[~\w.]*_ArgConfig\((?:[^()]|\([^()]*\))*\)|Positional))+\]": r"\1",
    r"~jaxtyping\.Key\[[^]]*, ''\] \| ~jaxtyping\.UInt32\[[^]]*\] \| ~jaxtyping\.UInt32\[[^]]*\]": (
        "~jaxtyping.PRNGKeyArray"
    ),
    r"~[\w.]+Array \| ~numpy\.ndarray \| ~numpy\.bool [^],)]*complex": "~jaxtyping.ArrayLike",
}


def as_written(app, what, name, obj, options, signature, returned):
    """Shortens the types of a signature."""
    if signature is None:
        return None
    for long, short in WRITTEN.items():
        signature, returned = re.sub(long, short, signature), re.sub(long, short, returned or "")
    return signature, returned


def shorter(app, doctree):
    """Leaves out the module in which JAX defines its arrays."""
    for text in list(doctree.findall(nodes.Text)):
        if "jaxlib._jax." in text:
            text.parent.replace(text, nodes.Text(text.replace("jaxlib._jax.", "")))


def mathml(formula, display="inline"):
    """A formula as MathML, which browsers draw without a script."""
    text = convert(formula, display=display)
    # browsers show letters of another kind by their code points only, and log p as logp
    for letter, kind, code in (("L", "script", "\u2112"), ("E", "double-struck", "\U0001d53c")):
        text = text.replace(f'<mi mathvariant="{kind}">{letter}</mi>', f"<mi>{code}</mi>")
    return text.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em" />')


def inline_math(translator, node):
    """Writes a formula in a line of text."""
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block_math(translator, node):
    """Writes a formula in a line of its own."""
    formula = mathml(node.astext(), display="block")
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


def check_offline(app, exception):
    """Fails if a page loads anything from another server. (Links load nothing.)"""
    loads = re.compile(r'<(?:script|img|iframe|link rel="stylesheet")[^>]*"(?:https?:)?//[^"]*"')
    for page in Path(app.outdir).rglob("*.html"):
        found = loads.search(page.read_text())
        if found and exception is None:
            raise ExtensionError(f"{page} would load {found[0]}")


def setup(app):
    """Connects the functions above."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-signature", as_written)
    app.connect("doctree-read", shorter)
    app.connect("build-finished", check_offline)
