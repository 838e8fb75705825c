"""The tiny classifier as a file that ``--spec`` names."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import tiny_runs


class Spec(tiny_runs.TinySpec):
    """Dropout, batch normalisation and random augmentation."""
