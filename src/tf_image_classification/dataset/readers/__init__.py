"""Every kind of source as one listing of examples; one reader a kind of source.

    listing = find_examples(["pets"], option="SOURCE")
    listing.row(0).place.read()

A reader finds examples and names what it leaves out; it decodes nothing. Training, evaluation,
conversion, inspection and prediction all read a source through ``find_examples``, so that each of
them sees the same examples.
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
