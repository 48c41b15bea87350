"""Sphinx: the documentation site, built by `make docs`."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_ext")]
# Notebooks call `lindley` as a reader does in an activated environment.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

import jupyter_cache.executors.utils as executors  # noqa: E402
import nbclient  # noqa: E402

import lindley  # noqa: E402

# MyST-NB has no setting for these: join the pieces of 100 characters in which a command's output arrives
# (its own merge ends each piece with a line break), and keep the kernel's start-up warnings quiet.
executors.executenb = functools.partial(
    nbclient.execute, coalesce_streams=True, extra_arguments=["--log-level=ERROR"]
)

project = "Lindley"
author = "the Lindley developers"
copyright = author
version = release = lindley.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_design",
    "sphinx_copybutton",
    "api_reference",
    "command_reference",
    "repository_pages",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]

# Warnings are errors (see the Makefile). Names of other projects are not looked up: a build needs no network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r".*")]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4

nb_execution_mode = os.environ.get("LINDLEY_DOCS_NOTEBOOKS", "force")
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_render_markdown_format = "myst"  # notes hold tables

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 90
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "code"

highlight_language = "none"  # most blocks without a language are commands or formulas
smartquotes = False  # would turn `--` of options into a dash

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "Lindley"
html_static_path = ["_static"]
html_css_files = ["lindley.css"]
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "logo": {"text": "Lindley"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": ["theme-version"],
    "navigation_with_keys": False,
}
