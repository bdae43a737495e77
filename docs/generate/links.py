"""Links that lead out of docs/, to files of the repository.

They are written as the repository's web page wants them, `../train/world.py`. On the site,

- a file that is a page here (PAGES) is that page;
- any other file gets a page that shows its text, and a folder one that lists its files;
- what is not there is a warning, which `make docs` turns into an error.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = {"CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}  # file at the root -> the page that shows it
FOLDER = "repository"  # of the site, where the pages of files lie
TERM = "term-"  # with which the anchors of a glossary begin
LARGEST = 200_000  # bytes of a file that is shown; nobody reads more

log = logging.getLogger(__name__)


class ToFiles(SphinxTransform):
    """Turns links out of docs/, and to words of the glossary, into links to what the site has for them."""

    default_priority = 20

    def apply(self, **_: Any) -> None:
        """Looks at every link of one page."""
        for link in list(self.document.findall(_is_path)):
            written, _hash, anchor = str(link["reftarget"]).partition("#")
            anchor = anchor or str(link.get("reftargetid") or "")
            path = _lead(written, self.env.docname)
            if written == "glossary" and anchor.startswith(TERM):
                link.replace_self(self._xref(link, refdomain="std", reftype="term", reftarget=_word(anchor)))
            elif path is not None and path.relative_to(ROOT).as_posix() in PAGES:
                page = PAGES[path.relative_to(ROOT).as_posix()]
                link.replace_self(
                    self._xref(link, refdomain="doc", reftype="myst", reftarget=page, reftargetid=anchor or None)
                )
            elif path is not None:
                link.replace_self(self._to_file(link, path, anchor))

    def _xref(self, link: nodes.Element, **target: Any) -> addnodes.pending_xref:
        """A link that Sphinx looks up, and warns of if there is nothing."""
        return addnodes.pending_xref(
            "", *link.children, refdoc=self.env.docname, refexplicit=True, refwarn=True, **target
        )

    def _to_file(self, link: nodes.Element, path: Path, anchor: str) -> list[nodes.Node]:
        """A link to the page of a file."""
        name = path.relative_to(ROOT).as_posix()
        if not path.exists():
            log.warning("%s is not in the repository", name, location=link, type="links")
            return list(link.children)
        if anchor and anchor not in anchors_of(path):
            log.warning("%s has no heading #%s", name, anchor, location=link, type="links")
        self.env.metadata[self.env.docname].setdefault("files", set()).add(name)
        place = "../" * self.env.docname.count("/") + f"{FOLDER}/{name}.html"
        return [nodes.reference("", "", *link.children, internal=True, refuri=place)]


def _word(anchor: str) -> str:
    """The word of an anchor that Sphinx gives to an entry of a glossary."""
    return anchor.removeprefix(TERM).replace("-", " ")


def _is_path(node: nodes.Node) -> bool:
    return isinstance(node, addnodes.download_reference | addnodes.pending_xref) and node.get("reftype") == "myst"


def _lead(written: str, docname: str) -> Path | None:
    """The place in the repository that a link leads to, or None if it stays in docs/."""
    if Path(written).is_absolute():  # so a Markdown file outside docs/ arrives here, without its ending
        path = Path(written)
        path = path.with_name(path.name + ".md") if not path.exists() else path
    else:
        path = Path(os.path.normpath((DOCS / docname).parent / written))
    return path if path.is_relative_to(ROOT) and not path.is_relative_to(DOCS) else None


def anchors_of(path: Path) -> set[str]:
    """The anchors that the headings of a Markdown file have on the repository's web page."""
    from myst_parser.slugs import github_slugify

    text = path.read_text(encoding="utf-8") if path.suffix == ".md" else ""
    return {github_slugify(re.sub(r"[`*]", "", title)) for title in re.findall(r"^#+ (.*)$", text, re.M)}


def page(path: str) -> str:
    """A Markdown file from the root of the repository as a page of docs/: its relative links lead a folder up."""
    text = (DOCS / path).read_text(encoding="utf-8")
    return re.sub(r"\]\((?![a-z]+:|#|/)([^)]+)\)", r"](../\1)", text)


def file_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for every file and folder that is linked to, and for the files of those folders."""
    linked = {name for known in app.env.metadata.values() for name in known.get("files", ())}
    inside = {file for name in linked if (ROOT / name).is_dir() for file in _tracked(name)}
    for name in sorted(linked | inside):
        path = ROOT / name
        body = _listing(name) if path.is_dir() else _shown(path)
        yield f"{FOLDER}/{name}", {"title": name, "body": f"<h1>{escape(name)}</h1>{body}", "parents": []}, "page.html"


def _tracked(folder: str) -> list[str]:
    """The files in a folder that git knows; in an unpacked archive without git, all."""
    told = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    found = told.stdout.split() or [str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*") if p.is_file()]
    return sorted(found)


def _listing(folder: str) -> str:
    links = (
        f'<li><a href="{Path(folder).name}/{escape(name[len(folder) + 1 :])}.html">{escape(name)}</a></li>'
        for name in _tracked(folder)
    )
    return f"<ul>{''.join(links)}</ul>"


def _shown(path: Path) -> str:
    """The text of a file with the numbers of its lines."""
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    text = path.read_bytes()[:LARGEST].decode("utf-8", errors="replace")
    return str(highlight(text, lexer, HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True)))


def setup(app: Sphinx) -> None:
    """Hooks the two into the build."""
    app.add_transform(ToFiles)
    app.connect("html-collect-pages", file_pages)
