"""How Sphinx builds these pages. See CONTRIBUTING.rst for the command."""

import sys
from pathlib import Path

import txcouchdl

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "txcouchdl"
version = release = txcouchdl.__version__
extensions = ["options_reference", "command_reference"]
exclude_patterns = ["_extensions"]
# Every reference leads somewhere.
nitpicky = True
# What stands between backticks is nothing that Sphinx knows of, unless it is called by a role.
default_role = None
highlight_language = "none"
# What is typed is shown as it is typed: two dashes are no dash.
smartquotes = False
html_theme = "furo"
html_title = "txcouchdl"
html_static_path = ["_static"]
html_css_files = ["wrapping.css"]
html_show_copyright = False
html_copy_source = False
