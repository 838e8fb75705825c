"""Examples in, batches out: sources, records, decoding, order and position."""
