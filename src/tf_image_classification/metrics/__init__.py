"""How good the predictions are: mergeable metrics and the picture of a confusion matrix."""
