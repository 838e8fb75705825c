"""Examples in, batches out: sampling, decoding, preprocessing and distribution to the devices."""
