"""What people do to the exposure and the colours of a photograph."""

import numpy as np
from PIL import Image


def curve(function):
    """A change of each value, 0-1."""
    values = [round(255 * min(max(function(v / 255), 0), 1)) for v in range(256)]
    return lambda image: image.point(values * 3)


def balanced(red, blue):
    """Another white balance."""
    return lambda image: Image.fromarray(
        np.clip(np.asarray(image) * np.array([red, 1, blue]), 0, 255).astype(np.uint8)
    )
