"""How Sphinx makes the site out of docs/. `make docs` runs it.

The pages are Markdown, and are read as they are on the repository's web page too, so every link in them is an ordinary
relative one. A fence ```{NAME}``` with a NAME of `generate.GENERATED` stands for text that is made from the code while
the site is built; what is written inside such a fence is for those who read the page without building it.
"""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from generate import GENERATED, fields, links

import dfpipe

project = "dfpipe"
author = "the dfpipe authors"
copyright = "the dfpipe authors, Apache-2.0"  # without a year: the same text gives the same pages
release = version = dfpipe.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
smartquotes_action = "qe"  # quotes and ellipses, but no dashes: -- begins a flag
default_role = "literal"  # `name` in a docstring
exclude_patterns = ["generate", "_static"]

# Markdown. Headings get the anchors that they have on the repository's web page, which links into pages use.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]  # of the glossary
suppress_warnings = ["myst.header"]  # model_card.md is printed by `dfpipe model card`

# Docstrings. Types stand in the signature and are not repeated; a dataclass is told by its fields.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# Every name that is referred to must be found. What other packages call theirs cannot be without their inventories, which
# would be a download; nor can names of ours for which the reference has no place, as they are no part of what is promised.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!dfpipe\.(Detector|errors|types|config)).*")]

# Of `make docs-links`: pages of files are there only where HTML is made, and the others are of one's own machine.
linkcheck_ignore = [r"(\.\./)*repository/", r"http://127\.0\.0\.1"]

html_theme = "furo"
html_title = f"dfpipe {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_last_updated_fmt = None
html_theme_options = {"footer_icons": []}
highlight_language = "text"  # of a block that names none
pygments_style = "friendly"
pygments_dark_style = "native"

FENCE = re.compile(r"^```\{(" + "|".join(GENERATED) + r")\}[ ]*(.*?)\n.*?^```$", re.M | re.S)


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts what is made from the code in the place of its fences."""
    source[0] = FENCE.sub(lambda fence: GENERATED[fence[1]](*filter(None, [fence[2]])), source[0])


def dash(app: Sphinx, doctree: nodes.document) -> None:
    """Gives descriptions of parameters the dash for which Sphinx writes two hyphens."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))  # noqa: RUF001


def setup(app: Sphinx) -> None:
    """Hooks our parts into the build."""
    app.connect("source-read", fill)
    app.connect("doctree-read", dash)
    app.connect("autodoc-process-docstring", fields.describe)
    app.connect("autodoc-process-signature", fields.sign)
    links.setup(app)
