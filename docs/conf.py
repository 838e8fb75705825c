"""Sphinx's settings for the documentation; ``make docs`` builds it into build/site."""

import pathlib
import sys

DOCS = pathlib.Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

import tf_image_classification

project = "tf_image_classification"
release = tf_image_classification.__version__
author = "the tf_image_classification authors"
project_copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "site_build",
]
exclude_patterns = ["_ext", "_build"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "signature"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
napoleon_use_rtype = False
napoleon_use_ivar = True
# Types of other packages, of internal modules and of type annotations have no pages here.
nitpick_ignore_regex = [
    (r"py:.*", r"(tensorflow|tf|keras|numpy|np|npt|collections|os|types|typing|PIL)\..*"),
    (r"py:.*", r"tf_image_classification\.\w+\..*"),
    (r"py:class", r"\w+"),
]

html_theme = "furo"
html_title = "tf_image_classification"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "default"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
