"""Readers: every kind of source as one listing of examples.

    listing = find_examples(["pets"], option="SOURCE")
    listing.row(0).place.read()

A reader lists the examples of one kind of source, and skipped files with reasons; it decodes
nothing. Training, evaluation, conversion, inspection and inference all call ``find_examples``, so
they see the same examples.
"""

from tf_image_classification.dataset.readers.find import (
    find_examples,
    for_role,
    has_evaluation_part,
    source_kind,
)
from tf_image_classification.dataset.readers.listing import (
    LABEL,
    LeftOut,
    Listing,
    Place,
    Row,
)
from tf_image_classification.dataset.readers.names import IMAGE_SUFFIXES
from tf_image_classification.dataset.readers.sources import find_source
from tf_image_classification.labels import Value

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL",
    "LeftOut",
    "Listing",
    "Place",
    "Row",
    "Value",
    "find_examples",
    "find_source",
    "for_role",
    "has_evaluation_part",
    "source_kind",
]
