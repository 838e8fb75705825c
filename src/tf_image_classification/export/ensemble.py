"""Several exported models as one: the mean of their probabilities.

export_saved_model(path, ensemble_of(members, schema, max_pixels=..., png16_range=...), step=0)
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tf_image_classification.config import PixelRange
from tf_image_classification.errors import SpecError
from tf_image_classification.export.folding import FoldedModel
from tf_image_classification.export.saved_model import ExportedModel, Servable
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_outputs import mean_logits


def ensemble_of(
    members: Sequence[ExportedModel],
    schema: LabelSchema,
    *,
    max_pixels: int,
    png16_range: PixelRange,
) -> Servable:
    """The functions of an ensemble: each member computes, their probabilities are averaged.

    Args:
        members: loaded models with the same labels, preprocessing and image size.
        schema: their labels.
        max_pixels: as ``Servable`` takes it.
        png16_range: as ``Servable`` takes it.
    """
    together = tf.Module()
    together.members = [member.loaded for member in members]
    weights = [v for member in members for v in member.loaded.variables]

    def forward(images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        return mean_logits(schema, [member.forward(images, training) for member in members])

    def heat_maps(images: tf.Tensor) -> dict[str, tf.Tensor]:
        of_members = [member.explain(images) for member in members]
        found = {}
        for name in schema.names:
            maps = [heat[name] for heat in of_members if name in heat]
            if len(maps) < len(members) or len({tuple(heat.shape[1:]) for heat in maps}) > 1:
                raise SpecError("the members of the ensemble have no feature maps of one size")
            heat = tf.add_n(maps)
            found[name] = tf.math.divide_no_nan(heat, tf.reduce_max(heat, [1, 2], keepdims=True))
        return found

    return Servable(
        FoldedModel(together, (), weights),
        schema,
        forward,
        lambda image: members[0].preproc(image, 0, 0),
        members[0].image_spec,
        max_pixels,
        png16_range,
        heat_maps,
    )
