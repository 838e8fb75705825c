"""Checks of images and labels before a training: statistics, duplicates, leakage, label errors."""
