"""Whether code runs in a notebook or at a prompt, where ``sys.argv`` is not the program's own."""

from __future__ import annotations

import sys
from typing import Any


def is_interactive() -> bool:
    """Whether the code is typed in: in a notebook's cell or at a prompt, not in a program's file.

    A program that a notebook starts with ``%run`` has a file and a command line of its own.
    """
    has_file = hasattr(sys.modules["__main__"], "__file__")
    return not has_file and (hasattr(sys, "ps1") or _shell() is not None)


def is_notebook() -> bool:
    """Whether a notebook shows the output, so that HTML and widgets can be displayed."""
    return hasattr(_shell(), "kernel")


def _shell() -> Any:
    """IPython's shell, or None outside of IPython."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None
