"""Conversion of any source to sharded TFRecords: classes, splits, shards and their runners."""
