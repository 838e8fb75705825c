"""Names of the outputs of an exported model.

kind_probabilities, kind_calibrated, kind_class_name      a label with classes
tags_probabilities, tags_calibrated, tags_class_names     a multilabel label
price                                                     a regression label
"""

from __future__ import annotations

from tf_image_classification.batches import calibrated_key, probabilities_key
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL


def class_name_key(label: Label) -> str:
    """The output with the predicted class's name, as a text; only encoded images give it.

    Example:
        >>> class_name_key(Label("tags", depth=3, kind="multilabel"))
        'tags_class_names'
    """
    return f"{label.name}_class_name{'s' if label.kind == MULTILABEL else ''}"


def numeric_keys(label: Label, *, is_calibrated: bool) -> tuple[str, ...]:
    """The outputs of a label that are numbers.

    Example:
        >>> numeric_keys(Label("kind", depth=3), is_calibrated=True)
        ('kind_probabilities', 'kind_calibrated')
    """
    if not label.has_classes:
        return (label.name,)
    keys = (probabilities_key(label.name), calibrated_key(label.name))
    return keys if is_calibrated else keys[:1]
