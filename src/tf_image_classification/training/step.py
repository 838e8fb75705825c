"""The training step: forward, backward, reduce, clip, update; traced once, on every replica.

The loss is a mean over the global batch, so that the number of replicas and of accumulation parts
changes only the rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_image_classification.batches import Batch
from tf_image_classification.config import TrainingSettings
from tf_image_classification.dataset import mixup
from tf_image_classification.labels import LabelSchema
from tf_image_classification.optim.distillation import distilled
from tf_image_classification.optim.losses import known_logits, total_loss
from tf_image_classification.optim.optimizers import gradient_scale
from tf_image_classification.training.state import TrainState, seed_states, statistics

_SUM = tf.distribute.ReduceOp.SUM
_MEAN = tf.distribute.ReduceOp.MEAN
_SEEDS_PER_STEP = 4096  # more than any random layer uses in one step of one replica

Forward = Callable[[tf.Tensor, bool], dict[str, tf.Tensor]]
RateFraction = Callable[[tf.Tensor], Any]
Losses = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


class StepOutput(NamedTuple):
    """The outputs of a step.

    Attributes:
        loss: the loss of the global batch, regularisation included; float32 scalar.
        gradient_norm: global norm of the gradient before clipping; float32 scalar.
        votes: the votes of the workers, summed over all replicas; float32 [n].
    """

    loss: tf.Tensor
    gradient_norm: tf.Tensor
    votes: tf.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepFunction:
    """The computation of one replica in a step.

    Attributes:
        state: the variables that change.
        schema: the labels.
        forward: images and whether training, to logits by label.
        losses: labels and logits to per-example losses by label.
        settings: accumulation, clipping and mixing.
        average_decay: decay of the moving averages; unused without averages.
        seed: the run's seed, for random layers.
        num_replicas: replicas in all.
        on_device: augments the images on the device with a batch's random parameters; or None.
        teacher: images to the logits of a teacher to learn from; or None.
        rate_fractions: for each trained variable its fraction of the learning rate as a function of
            the step; None: always 1.
    """

    state: TrainState
    schema: LabelSchema
    forward: Forward
    losses: Losses
    settings: TrainingSettings
    average_decay: float
    seed: int
    num_replicas: int
    on_device: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    teacher: Callable[[tf.Tensor], dict[str, tf.Tensor]] | None = None
    rate_fractions: Sequence[RateFraction | None] = ()

    def __call__(self, batch: Batch, votes: tf.Tensor) -> StepOutput:
        """Run one step in replica context; moves ``state`` by exactly one step.

        Args:
            batch: this replica's part of the global batch.
            votes: the votes of this worker, float32 [n]; summed together with other sums.
        """
        self._seed_random_layers()
        # Summed in one collective: between machines each one costs a round trip.
        sums = [tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in batch.mask.values()]
        *sums, votes = self._sum([*sums, tf.identity(votes)])  # on this replica's device
        counts = dict(zip(batch.mask, sums, strict=True))
        loss, gradients = self._gradients(batch, counts)
        loss, *gradients = self._sum([loss, *gradients])
        if self.settings.sam_rho:
            gradients = self._sharpness_aware(batch, counts, gradients)
        gradients, norm = self._clipped(gradients)
        # Counters do not depend on the batch: without this they could be updated although reading
        # the batch failed in the same call.
        with tf.control_dependencies([loss, norm]):
            self._apply(gradients)
            self._share_statistics()
            self._update_averages()
            self._count(loss, norm)
        return StepOutput(loss, norm, votes)

    def changed(self, batch: Batch) -> Batch:
        """A batch after augmentation on the device, before mixing."""
        if self.on_device is None:
            return batch
        return batch._replace(images=self.on_device(batch.images, batch.random_parameters))

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        """The optimizer's update, scaled by each variable's fraction of the learning rate.

        Every optimizer here is linear in the learning rate, weight decay included (except for
        FTRL's penalties), so a fraction of the change is the change at that fraction of the rate.
        """
        state = self.state
        scaled = [
            (
                variable.value,
                tf.identity(variable.value),
                tf.cast(fraction(state.step), variable.dtype),
            )
            for variable, fraction in zip(state.trained, self.rate_fractions, strict=False)
            if fraction is not None
        ]
        with tf.control_dependencies([old for _, old, _ in scaled]):
            state.optimizer.apply(gradients, state.trained)
        for value, old, fraction in scaled:
            # Not old + 0 * change, which is NaN where the change is infinite.
            value.assign(tf.where(fraction > 0, old + fraction * (value - old), old))

    def _seed_random_layers(self) -> None:
        """Make random layers, e.g. dropout, a function of seed, step and replica."""
        replica = tf.cast(self._replica(), tf.int64)
        counter = (self.state.step * self.num_replicas + replica) * _SEEDS_PER_STEP
        for i, variable in enumerate(seed_states(self.state.model)):
            key = tf.constant((self.seed + 7919 * (i + 1)) % 2**31, tf.int64)
            variable.value.assign(tf.cast(tf.stack([key, counter]), variable.value.dtype))

    def _gradients(
        self, batch: Batch, counts: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        parts = self.settings.gradient_accumulation_steps
        first_part = self._replica() * parts
        if parts == 1:
            return self._part_gradients(batch, counts, first_part)
        split = tf.nest.map_structure(
            lambda t: tf.reshape(t, [parts, t.shape[0] // parts, *t.shape[1:]]), batch
        )

        def add_part(i: tf.Tensor, loss: tf.Tensor, sums: list[tf.Tensor]) -> tuple:  # type: ignore[type-arg]
            part = tf.nest.map_structure(lambda t: t[i], split)
            part_loss, gradients = self._part_gradients(part, counts, first_part + i)
            return i + 1, loss + part_loss, [s + g for s, g in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros(v.shape, v.value.dtype) for v in self.state.trained]
        _, loss, gradients = tf.while_loop(
            lambda i, *_: i < parts,
            add_part,
            (tf.constant(0), tf.constant(0.0), zeros),
            parallel_iterations=1,
        )
        return loss, gradients

    def _sharpness_aware(
        self, batch: Batch, counts: Mapping[str, tf.Tensor], gradients: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Gradients where the loss is highest near the weights (Foret et al., arXiv 2010.01412).

        They are taken at weights + sam_rho * gradient / norm (equation 2) of the global batch, with
        the same images and dropout. Weights and batch-norm statistics are put back. Variables whose
        learning rate is 0 at this step stay out of gradient and norm.
        """
        state = self.state
        fractions = self.rate_fractions or [None] * len(gradients)
        moving = [
            g
            if f is None
            else tf.where(tf.cast(f(state.step), tf.float32) > 0, g, tf.zeros_like(g))
            for g, f in zip(gradients, fractions, strict=True)
        ]
        radius = self.settings.sam_rho / (tf.linalg.global_norm(moving) + 1e-12)
        changed = [*state.trained, *statistics(state.model)]
        before = [tf.identity(variable.value.read_value()) for variable in changed]
        with tf.control_dependencies(before):
            for variable, value, gradient in zip(state.trained, before, moving, strict=False):
                variable.value.assign(value + tf.cast(radius * gradient, value.dtype))
        self._seed_random_layers()
        _, gradients = self._gradients(batch, counts)
        gradients = self._sum(gradients)
        with tf.control_dependencies(gradients):
            for variable, value in zip(changed, before, strict=True):
                variable.value.assign(value)
        return gradients

    def _part_gradients(
        self, part: Batch, counts: Mapping[str, tf.Tensor], number: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Loss and gradients of a part of the global batch; number counts over all replicas."""
        state = self.state
        images, weight = self._mixed(part, number)
        teacher_logits = self.teacher(images) if self.teacher else None
        with tf.GradientTape() as tape:
            logits = known_logits(self.schema, self.forward(images, True), part.mask)
            per_example = self._mixed_losses(part, logits, weight)
            if teacher_logits is not None:
                per_example = distilled(
                    self.schema, self.settings, per_example, logits, teacher_logits
                )
            uncertainty = {name: v.value for name, v in state.log_variances.items()}
            loss = total_loss(self.schema, per_example, part.mask, counts, uncertainty)
            if state.model.losses:
                num_parts = self.num_replicas * self.settings.gradient_accumulation_steps
                regularisation = tf.add_n([tf.cast(x, tf.float32) for x in state.model.losses])
                loss += regularisation / num_parts
            scaled = state.optimizer.scale_loss(loss)
        gradients = tape.gradient(
            scaled,
            [v.value for v in state.trained],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return loss, [tf.convert_to_tensor(g) for g in gradients]

    def _replica(self) -> tf.Tensor:
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    @property
    def _is_mixing(self) -> bool:
        return bool(self.settings.mixup_alpha or self.settings.cutmix_alpha)

    def _mixed(self, part: Batch, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The images of a part, mixed by mixup or CutMix, and the weight of each original image."""
        part = self.changed(part)
        if not self._is_mixing:
            return part.images, None
        num_pairs = part.images.shape[0] // 2
        num_parts = self.num_replicas * self.settings.gradient_accumulation_steps
        parameters = mixup.random_parameters(
            num_pairs * num_parts,
            tf.stack([tf.constant(self.seed, tf.int64), self.state.step]),
            mixup_alpha=self.settings.mixup_alpha,
            cutmix_alpha=self.settings.cutmix_alpha,
        )
        first = tf.cast(number, tf.int32) * num_pairs
        mine = mixup.PairParameters(*(values[first : first + num_pairs] for values in parameters))
        mine = tf.nest.map_structure(lambda t: tf.ensure_shape(t, [num_pairs, *t.shape[1:]]), mine)
        return mixup.mix(part.images, part.ids, mine)

    def _mixed_losses(
        self, part: Batch, logits: Mapping[str, tf.Tensor], weight: tf.Tensor | None
    ) -> Mapping[str, tf.Tensor]:
        own = self.losses(part.labels, logits)
        if weight is None:
            return own
        others = self.losses({n: mixup.swapped(v) for n, v in part.labels.items()}, logits)
        mixed = {}
        for name, loss in own.items():  # without a label of the partner, the own loss remains
            mask = mixup.swapped(part.mask[name])
            mixed[name] = tf.where(mask, weight * loss + (1.0 - weight) * others[name], loss)
        return mixed

    def _clipped(self, gradients: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        scale = gradient_scale(self.state.optimizer)
        norm = tf.linalg.global_norm(gradients)
        if self.settings.gradient_clip_norm:
            limit = self.settings.gradient_clip_norm * scale
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
        if self.settings.gradient_clip_value:
            limit = self.settings.gradient_clip_value * scale
            # An infinite gradient stays infinite, so that loss scaling skips the step.
            is_finite = tf.math.is_finite(norm)
            gradients = [
                tf.where(is_finite, tf.clip_by_value(g, -limit, limit), g) for g in gradients
            ]
        return gradients, norm / scale

    def _share_statistics(self) -> None:
        """Average the statistics of batch normalisation over the replicas."""
        shared = statistics(self.state.model)
        if self.num_replicas == 1 or not shared:
            return
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(_MEAN, [v.value.read_value() for v in shared])
        for variable, mean in zip(shared, means, strict=True):
            variable.value.assign(mean)

    def _update_averages(self) -> None:
        """Exponential moving averages; the decay grows from 0.1, as in TensorFlow 1."""
        if not self.state.averages:
            return
        step = tf.cast(self.state.step, tf.float32)
        decay = tf.minimum(self.average_decay, (1.0 + step) / (10.0 + step))
        for variable in self.state.model.variables:
            average = self.state.averages.get(variable.path)
            if average is not None:
                value = tf.cast(variable.value.read_value(), average.dtype)
                average.assign(average + (1.0 - tf.cast(decay, average.dtype)) * (value - average))

    def _count(self, loss: tf.Tensor, norm: tf.Tensor) -> None:
        state = self.state
        is_good = tf.math.is_finite(norm)
        if isinstance(state.optimizer, keras.optimizers.LossScaleOptimizer):
            # It skips such a step and halves its scale; below 1 the scale is not the cause.
            is_good |= tf.convert_to_tensor(state.optimizer.dynamic_scale) >= 1.0
        is_good &= tf.math.is_finite(loss)
        is_first_bad = ~is_good & (state.bad_step < 0)
        state.bad_step.assign(tf.where(is_first_bad, state.step, state.bad_step))
        state.loss_sum.assign_add(tf.cast(loss, tf.float64))
        state.loss_count.assign_add(1)
        state.step.assign_add(1)

    def _sum(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Each value summed over the replicas."""
        if self.num_replicas == 1:
            return values
        sums: list[tf.Tensor] = tf.distribute.get_replica_context().all_reduce(_SUM, values)
        return sums
