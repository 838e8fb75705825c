"""Features of images by a frozen network, computed once and kept in the cache folder."""
