# SPDX-License-Identifier: Apache-2.0
"""The site: `make docs`. It needs no network, so references lead to our own pages only."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import lightning_gradwatch

project = "lightning_gradwatch"
author = "The lightning_gradwatch developers"
project_copyright = author
release = version = lightning_gradwatch.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",  # ours, in _ext
    "remedies",
    "results",
]
exclude_patterns = ["_build"]
nitpicky = True
# Other projects' names, which would need their inventories from the network.
nitpick_ignore_regex = [
    (r"py:.*", r"(enum|torch|numpy|np|nn|collections|typing|pathlib|lightning|pytorch_lightning)\b.*"),
    (r"py:class", r"lightning_gradwatch\.\w+\..*"),  # types in signatures; where they are public, they resolve
    (r"py:.*", r"(Tensor|Optimizer|Any|Module|NDArray|Self|optional|ClassVar)"),
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "lightning_gradwatch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
