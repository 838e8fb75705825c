"""The object that ``train`` and ``load_model`` return: a trained model in Python and notebooks.

Public are the names in ``__all__``; the modules of this folder are internal. Needs no TensorFlow
before it is used.
"""

from tf_image_classification.classifier.combining import combine
from tf_image_classification.classifier.comparison import ComparedModels, compare
from tf_image_classification.classifier.cross_validation import CrossValidated, cross_validate
from tf_image_classification.classifier.history import History
from tf_image_classification.classifier.keyword_errors import keyword_errors
from tf_image_classification.classifier.labelling import forecast, label_next
from tf_image_classification.classifier.model import Classifier, load_model
from tf_image_classification.classifier.shown import Predictions, ReportPage
from tf_image_classification.classifier.training import train

__all__ = [
    "Classifier",
    "ComparedModels",
    "CrossValidated",
    "History",
    "Predictions",
    "ReportPage",
    "combine",
    "compare",
    "cross_validate",
    "forecast",
    "keyword_errors",
    "label_next",
    "load_model",
    "train",
]
