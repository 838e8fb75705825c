"""The data of a run: its examples found, indexed and checked, its vocabularies fixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_image_classification.config import FULL_RANGE, PixelRange, Settings
from tf_image_classification.dataset.pipeline.decoded_cache import DecodedCache
from tf_image_classification.dataset.pipeline.example_readers import IndexedReader, StreamingReader
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.pipeline.pipeline import Pipeline
from tf_image_classification.dataset.pipeline.protocols import BatchSource, ExampleReader
from tf_image_classification.dataset.pipeline.stream import Stream, read_stream
from tf_image_classification.dataset.pipeline.user_input import UserInput
from tf_image_classification.dataset.readers import LeftOut
from tf_image_classification.dataset.table import RawTable, SourceOptions, Table, table_of
from tf_image_classification.errors import ConfigError, DataError, LabelError, did_you_mean
from tf_image_classification.estimator_specs import EstimatorSpec, schema_of
from tf_image_classification.labels import LabelSchema, read_class_names
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.environment import cache_dir
from tf_image_classification.workflows.setup.evaluation_split import why_no_evaluation
from tf_image_classification.workflows.setup.png16_range import range_for


@dataclasses.dataclass(frozen=True)
class Data:
    """The examples of a run.

    Attributes:
        schema: the labels with their vocabularies.
        train: the training examples, or None.
        evaluation: the evaluation examples, or None.
        notes: notes on the data, in sentences.
        left_out: skipped rows of both sets, with reasons.
    """

    schema: LabelSchema
    train: BatchSource | None
    evaluation: BatchSource | None
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def read_data(
    context: RunContext, stored: LabelSchema | None = None, *, with_training: bool = True
) -> Data:
    """Find, index and check all examples, and fix the vocabularies.

    Args:
        context: the run.
        stored: the schema of the model folder, whose vocabularies then hold.
        with_training: whether the training examples are read too.

    Raises:
        DataError: something about the data is wrong; names the file, line or record.
        SpecError: class_dict is inconsistent, or does not fit the class names.
    """
    spec, settings = context.spec, context.settings
    schema = schema_of(spec)
    train_metadata = settings.data.train_metadata if with_training else ()
    vocabularies, collected = _known_vocabularies(schema, settings, stored)
    if spec.has_own_input:
        schema = schema.with_vocabularies(vocabularies)
        return Data(
            schema,
            _own_input(spec, schema, settings, True) if with_training else None,
            _own_input(spec, schema, settings, False),
        )
    notes: list[str] = []
    left_out: list[LeftOut] = []
    train: BatchSource | None = None
    raw_eval = None
    png16_range = FULL_RANGE
    if settings.data.eval_metadata:
        raw_eval = _read(context, "eval_metadata", schema)
    if train_metadata and settings.data.input_mode == "streaming":
        stream = read_stream(
            train_metadata,
            schema,
            _options("train_metadata", settings),
            block=settings.data.stream_block,
            vocabularies=vocabularies,
            collected=collected,
        )
        schema = stream.schema
        png16_range = range_for(settings, None)
        train = _pipeline(
            spec, _streaming(stream, settings), settings, png16_range, is_training=True
        )
    elif train_metadata:
        raw = _read(context, "train_metadata", schema)
        for label in schema.labels_with_classes:
            if label.name not in vocabularies:
                vocabularies[label.name] = raw.vocabulary(label)
                if vocabularies[label.name] != label.named_classes():
                    collected.add(label.name)
        schema = schema.with_vocabularies(vocabularies, collected=collected)
        table = _encoded(raw, schema, stored)
        png16_range = range_for(settings, table)
        reader = _indexed(table, settings, png16_range, is_training=True)
        train = _pipeline(spec, reader, settings, png16_range, is_training=True)
        notes += raw.notes
        left_out += raw.table.left_out
    elif raw_eval is not None:
        schema = schema.with_vocabularies(vocabularies, collected=collected)
    evaluation = None
    if raw_eval is not None:
        table = _encoded(raw_eval, schema, stored)
        if train is None:
            png16_range = range_for(settings, None)
        reader = _indexed(table, settings, png16_range, is_training=False)
        evaluation = _pipeline(spec, reader, settings, png16_range, is_training=False)
        notes += raw_eval.notes
        left_out += raw_eval.table.left_out
    without = why_no_evaluation(settings) if train is not None else ""
    notes += [without] if without else []
    return Data(schema, train, evaluation, tuple(notes), tuple(left_out))


def _encoded(raw: RawTable, schema: LabelSchema, stored: LabelSchema | None) -> Table:
    try:
        return raw.encode(schema)
    except LabelError as error:
        if stored is None:
            raise
        raise LabelError(
            f"{error} The class names are those of the run in the model folder; a run with other "
            "classes needs another model_dir."
        ) from error


def _known_vocabularies(
    schema: LabelSchema, settings: Settings, stored: LabelSchema | None
) -> tuple[dict[str, Sequence[str]], set[str]]:
    """The known class names by label, and the labels whose names were collected from data."""
    vocabularies: dict[str, Sequence[str]] = {}
    collected: set[str] = set()
    for label in (*(stored.labels_with_classes if stored else ()), *schema.labels_with_classes):
        known = label.name in schema.names and schema[label.name].depth == label.depth
        if label.class_names and known:  # another depth: the folder's check names the difference
            vocabularies[label.name] = label.class_names
            collected -= {label.name}
            collected |= {label.name} if label.are_collected else set()
    for name, class_names in given_class_names(settings).items():
        of_classes = schema.labels_with_classes
        if not name and len(of_classes) != 1:
            raise ConfigError(
                f"--labels {settings.data.labels[0]}: class_dict has {len(of_classes)} labels with "
                "classes. Give name=file for each of them."
            )
        vocabularies[name or of_classes[0].name] = class_names
        collected -= {name or of_classes[0].name}
    schema.with_vocabularies(vocabularies)  # refuses a wrong depth before any data is read
    return vocabularies, collected


def given_class_names(settings: Settings) -> dict[str, tuple[str, ...]]:
    """By label the class names of the files that ``labels`` names; "" stands for the only label.

    Raises:
        DataError: there is no such file, or it does not name each class once.
    """
    given = {}
    for entry in settings.data.labels:
        name, equals, path = entry.partition("=")
        if not equals or files.exists(entry):  # a path may hold an equals sign
            name, path = "", entry
        if not files.exists(path):
            raise DataError(f"--labels: there is no file {path!r} of class names.")
        given[name] = read_class_names(files.read_text(path), path)
    return given


def _options(option: str, settings: Settings) -> SourceOptions:
    pairs = {}
    for entry in settings.data.label_features:
        name, equals, feature = entry.partition("=")
        if not equals:
            raise ConfigError(f"label_features: {entry!r} is not of the form label=feature.")
        pairs[name] = feature
    return SourceOptions(
        option=option,
        cache_dir=cache_dir(settings),
        image_feature=settings.data.image_feature,
        label_features=pairs,
        skips_damaged=settings.data.on_bad_image == "skip",
    )


def _read(context: RunContext, option: str, schema: LabelSchema) -> RawTable:
    settings = context.settings
    patterns = getattr(settings.data, option)
    listing, note = context.sources.find(patterns, option, settings)
    raw = table_of(listing, schema, _options(option, settings))
    if not note:
        return raw
    return dataclasses.replace(raw, table=dataclasses.replace(raw.table, notes=(note, *raw.notes)))


def _streaming(stream: Stream, settings: Settings) -> StreamingReader:
    if settings.training.balanced_sampling:
        raise ConfigError("balanced_sampling needs random access: use input_mode indexed.")
    return StreamingReader(stream, seed=settings.run.seed, shuffle=not settings.run.debug)


def _indexed(
    table: Table, settings: Settings, png16_range: PixelRange, *, is_training: bool
) -> IndexedReader:
    service = settings.data.data_service if is_training else ""
    if service and not table.fetches_in_parallel:
        raise ConfigError(
            "data_service cannot read TFRecord files by random access, which happens in this "
            "process. Add --input_mode streaming, or name the images by a CSV file or a folder."
        )
    balanced_by = settings.training.balanced_sampling if is_training else ""
    if balanced_by:
        _check_balanced(table, balanced_by)
    limit = settings.data.max_image_pixels
    cache = None if service else DecodedCache(table, max_pixels=limit, png16_range=png16_range)
    return IndexedReader(
        table,
        seed=settings.run.seed,
        shuffle=not settings.run.debug,
        balanced_by=balanced_by,
        cache=cache,
    )


def _pipeline(
    spec: EstimatorSpec,
    reader: ExampleReader,
    settings: Settings,
    png16_range: PixelRange,
    *,
    is_training: bool,
) -> Pipeline:
    return Pipeline(
        reader=reader,
        preprocessor=ImagePreprocessor(
            preproc=spec.get_preproc_fn(is_training),
            image_size=settings.data.image_size,
            max_image_pixels=settings.data.max_image_pixels,
            seed=settings.run.seed,
            png16_range=png16_range,
        ),
        batch_size=settings.data.batch_size,
        data_service=settings.data.data_service if is_training else "",
    )


def _check_balanced(table: Table, label: str) -> None:
    """Refuse balanced sampling by a label without classes."""
    columns = [name for name, c in table.columns.items() if c.values.dtype == np.int64]
    if label not in columns:
        raise ConfigError(
            f"balanced_sampling {label!r} is no class label. {did_you_mean(label, columns)}"
        )


def without_augmentation(data: Data, spec: EstimatorSpec) -> Pipeline:
    """The training examples, preprocessed as for evaluation."""
    pipeline = data.train.as_pipeline if data.train is not None else None
    assert pipeline is not None
    preproc = spec.get_preproc_fn(False)
    preprocessor = dataclasses.replace(pipeline.preprocessor, preproc=preproc)
    return dataclasses.replace(pipeline, preprocessor=preprocessor, data_service="")


def _own_input(
    spec: EstimatorSpec, schema: LabelSchema, settings: Settings, is_training: bool
) -> UserInput | None:
    names = settings.data.train_metadata if is_training else settings.data.eval_metadata
    if not names:
        return None
    make = spec.input_fn(
        batch_size=settings.data.batch_size,
        metadata=list(names),
        class_dict=spec.class_dict,
        is_tfrecord=not any(name.lower().endswith(".csv") for name in names),
        epochs=None if is_training else 1,
        image_size=settings.data.image_size,
        preproc_fn=spec.get_preproc_fn(is_training),
    )
    return UserInput(
        make=make, schema=schema, batch_size=settings.data.batch_size, source_names=names
    )
