"""From files to batches: every source alike, every example once, bad data named."""

import gzip
import itertools
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.python.autograph.impl import api

from dataset import tiny_sources
from dataset.tiny_sources import example
from tf_image_classification.dataset import tfrecord
from tf_image_classification.dataset.pipeline.distribute import DistributedBatches
from tf_image_classification.dataset.pipeline.layout import Shard
from tf_image_classification.dataset.pipeline.sampler import EpochSampler
from tf_image_classification.dataset.pipeline.stream import read_stream
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import BadImageError, DataError
from tf_image_classification.labels import Label, LabelSchema

KINDS = ("cat", "dog", "emu")
COUNT = 13
SCHEMA = LabelSchema((Label("kind", depth=3),))
NAMED = SCHEMA.with_vocabularies({"kind": KINDS})


def png(number):
    return tiny_sources.png(10 * number, (8, 8))


def write(path, records, compression=""):
    return [tiny_sources.write(path, records, compression)]


def legacy(**extra):
    return [example(i, image_bytes=png(i), **{"kind": float(i % 3), **extra}) for i in range(COUNT)]


ODD_NAMES = ["a,b", 'c"d', "e f", "[1]*", "%20", "#5", "ünïcødé", "日本", "i", "j", "k", "l", "m"]


def build(form, folder):
    """The same thirteen examples, in one of the forms; returns what names them."""
    if form in ("", "GZIP", "ZLIB"):
        return write(folder / "records.csv.bin", legacy(), form)
    if form == "members":
        write(folder / "plain", legacy())
        data = (folder / "plain").read_bytes()
        (folder / "two.gz").write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
        return [str(folder / "two.gz")]
    if form in ("common int", "common text"):
        records = []
        for i in range(COUNT):
            label = i % 3 if form == "common int" else KINDS[i % 3].encode()
            records.append(example(i, **{"image/encoded": png(i), "image/class/label": label}))
        return write(folder / "common.tfrecord", records)
    if form == "folder":
        for i, name in enumerate(ODD_NAMES):
            (folder / KINDS[i % 3]).mkdir(exist_ok=True)
            (folder / KINDS[i % 3] / f"{i:02d}{name}.png").write_bytes(png(i))
        return [str(folder)]
    lines = []
    for i, name in enumerate(ODD_NAMES):
        (folder / f"{name}.png").write_bytes(png(i))
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}.png",{KINDS[i % 3]}')
    header = {"headerless": "", "labels": "URIs,labels\n", "column": "URIs,kind\n"}[form]
    (folder / "train.csv").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return [str(folder / "train.csv")]


FORMS = ["", "GZIP", "ZLIB", "members", "common int", "common text", "folder", "headerless",
         "labels", "column"]  # fmt: skip


def options(folder):
    return SourceOptions(option="train_metadata", cache_dir=str(folder / "cache"))


def resized(image, width, height, seed):
    noise = tf.random.stateless_uniform([], seed)
    return tf.ensure_shape(tf.image.resize(image, [height, width]) + noise, [width, height, 3])


def pipeline(source, **changes):
    defaults = {"preproc": resized, "image_size": 4, "max_image_pixels": 100}
    return tiny_sources.pipeline(source, **{**defaults, **changes})


@pytest.mark.parametrize("form", FORMS)
def test_every_source_gives_the_same_examples(form, tmp_path):
    raw = read_table(build(form, tmp_path), SCHEMA, options(tmp_path))
    vocabulary = raw.vocabulary(SCHEMA["kind"])
    assert vocabulary == (KINDS if form in FORMS[5:] else ("0", "1", "2"))
    table = raw.encode(SCHEMA.with_vocabularies({"kind": vocabulary}))
    assert table.num_examples == COUNT
    data = table.fetch(tf.range(COUNT, dtype=tf.int64)).numpy()
    found = {}
    for i in range(COUNT):
        found[int(tf.io.decode_png(data[i])[0, 0, 0]) // 10] = table.columns["kind"].values[i]
        assert table.locate(i)
    assert found == {i: i % 3 for i in range(COUNT)}
    again = read_table(build(form, tmp_path), SCHEMA, options(tmp_path))
    assert again.fingerprint == raw.fingerprint


def test_what_a_folder_leaves_out_is_told(tmp_path):
    for place in ("cat/1.jpg", "cat/notes.txt", "dog/2.jpg", "dog/more/3.JFIF", "stray.jpg"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / place).write_bytes(b"x")
    (tmp_path / "emu").mkdir()
    schema = LabelSchema((Label("pet", depth=3),))
    raw = read_table([str(tmp_path)], schema, options(tmp_path))
    assert raw.num_examples == 3 and raw.vocabulary(schema["pet"]) == ("cat", "dog", "emu")
    names, beside, contradictions = raw.notes
    assert "skipped 1 file or row" in names and "notes.txt: not the name of an image" in names
    assert (
        "skipped 1 file or row" in beside and "stray.jpg: lies beside the class folders" in beside
    )
    assert contradictions.startswith("2 images occur twice with contradicting labels: ")
    assert "1.jpg (cat) and " in contradictions and "2.jpg (dog)" in contradictions


def cut(data, count):
    return data[:-count]


BAD = {
    "missing file": (lambda d: [str(d / "no.tfrecord")], "no.tfrecord"),
    "empty glob": (lambda d: [str(d / "train*")], "no file matches"),
    "empty folder": (lambda d: [str(d)], "no class folders"),
    "header only": (lambda d: text(d, "t.csv", "URIs,labels\n"), "t.csv.*header"),
    "empty csv": (lambda d: text(d, "t.csv", ""), "t.csv is empty"),
    "few cells": (lambda d: text(d, "t.csv", "a.png,cat\na.png\n"), "t.csv line 2: has 1 cells"),
    "three cells": (lambda d: text(d, "t.csv", "a.png,cat,7\n"), "line 1 has 3 cells"),
    "unknown label": (lambda d: text(d, "t.csv", "a.png,cow\n"), r"t.csv line 1.*'cow'"),
    "no such image": (lambda d: text(d, "t.csv", "b.png,cat\n"), r"t.csv line 1.*b.png"),
    "out of depth": (
        lambda d: write(d / "r", [*legacy(), example(0, image_bytes=png(0), kind=3.0)]),
        r"r record 13: label 'kind' is 3",
    ),
    "minus one": (
        lambda d: write(d / "r", [*legacy(), example(0, image_bytes=png(0), kind=-1.0)]),
        r"r record 13: label 'kind' is -1.*missing=-1",
    ),
    "no image": (lambda d: write(d / "r", [*legacy(), example(0, kind=1.0)]), "r record 13.*image"),
    "cut record": (lambda d: changed(d, lambda b: b[:-9]), "r is cut.*record 12"),
    "cut footer": (lambda d: changed(d, lambda b: b[:-2]), "r is cut.*record 12"),
    "flipped byte": (
        lambda d: changed(d, lambda b: b[:-20] + b"!" + b[-19:]),
        "r record 12.*check",
    ),
    "cut gzip": (lambda d: changed(d, lambda b: gzip.compress(b)[:-30]), "r is cut"),
    "cut zlib": (lambda d: changed(d, lambda b: zlib.compress(b)[:-30]), "r is cut"),
    "zero bytes": (lambda d: changed(d, lambda b: b""), "r is empty"),
    "text": (lambda d: changed(d, lambda b: b"these are no records"), "not a TFRecord file"),
    "mixed": (lambda d: write(d / "r", legacy()) + text(d, "t.csv", "a.png,cat\n"), "mixes"),
    "not an example": (lambda d: write(d / "r", [b"\xff\xff\xff"]), "r record 0"),
    "column twice": (
        lambda d: text(d, "t.csv", "URIs,kind,kind\na.png,cat,dog\n"),
        "t.csv names column 'kind' twice",
    ),
    "nul": (lambda d: text(d, "t.csv", "a.png,cat\na\0.png,cat\n"), "t.csv line 2 .*NUL"),
    "not utf-8": (lambda d: text(d, "t.csv", b"\xff.png,cat\n"), "t.csv is not UTF-8"),
}


def text(folder, name, content):
    (folder / "a.png").write_bytes(png(0))
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return [str(folder / name)]


def changed(folder, change):
    path = folder / "r"
    write(path, legacy())
    path.write_bytes(change(path.read_bytes()))
    return [str(path)]


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_named(case, tmp_path):
    make, expected = BAD[case]
    with pytest.raises(DataError, match=f"(?s){expected}"):
        read_table(make(tmp_path), SCHEMA, options(tmp_path)).encode(NAMED)


def test_a_missing_label_is_marked_and_never_a_class(tmp_path):
    schema = LabelSchema((Label("kind", depth=3, missing=-1), Label("age", one_hot=False)))
    records = [
        example(0, image_bytes=png(0), kind=-1.0, age=4.5),
        example(1, image_bytes=png(1), kind=2.0),
        example(2, image_bytes=png(2), age=1.0),
    ]
    table = read_table(write(tmp_path / "r", records), schema, options(tmp_path)).encode(schema)
    assert table.columns["kind"].mask.tolist() == [False, True, False]
    assert table.columns["kind"].values.tolist() == [0, 2, 0]
    assert table.columns["age"].mask.tolist() == [True, False, True]


@given(st.integers(1, 300), st.integers(0, 2**31 - 1), st.integers(0, 10**6))
@settings(deadline=None)
def test_each_epoch_is_a_permutation_of_its_own(count, seed, epoch):
    order = EpochSampler(count, seed, shuffle=True)
    positions = tf.range(count, dtype=tf.int64) + epoch * count
    assert sorted(order.example_numbers(positions).numpy().tolist()) == list(range(count))


@pytest.fixture(scope="module", params=["indexed", "streaming", "streaming in lanes"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    records, paths = legacy(), []
    cuts = (0, 2, 9, COUNT) if request.param != "streaming in lanes" else (*range(8), 11, COUNT)
    for start, end in itertools.pairwise(cuts):
        paths += write(folder / f"r{start}", records[start:end], "GZIP")
    if request.param == "indexed":
        numbered = SCHEMA.with_vocabularies({"kind": ("0", "1", "2")})
        return read_table(paths, SCHEMA, options(folder)).encode(numbered)
    return read_stream(paths, SCHEMA, options(folder), block=5, vocabularies={})


def taken(dataset, count):
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in dataset.take(count)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, a, b)


@pytest.mark.slow_after(1)
def test_nothing_is_dropped_or_repeated_over_epochs(source):
    batches = taken(pipeline(source).training_batches(0), 26)
    ids = np.concatenate([batch.ids for batch in batches])
    epochs = ids.reshape(8, COUNT)
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 4
    assert all((batch.labels["kind"] == batch.ids % 3).all() for batch in batches)


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("step", [1, 7])
def test_batches_from_a_position_are_those_of_a_straight_run(source, step):
    straight = taken(pipeline(source).training_batches(0), step + 4)
    assert_same(taken(pipeline(source).training_batches(4 * step), 4), straight[step:])


def test_a_stream_is_traced_as_it_is_written(tmp_path, monkeypatch):
    paths = write(tmp_path / "r", legacy(), "GZIP")
    stream = read_stream(paths, SCHEMA, options(tmp_path), block=5, vocabularies={})
    rewritten, convert = [], api._convert_actual
    monkeypatch.setattr(api, "_convert_actual", lambda f, c: rewritten.append(f) or convert(f, c))
    numbers, *_ = next(iter(stream.batches(0, 3, 4, range(4))))
    assert numbers.shape == 4 and rewritten == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [4])
def test_the_slices_of_the_workers_make_the_global_batch(source, workers):
    whole = taken(pipeline(source).training_batches(0), 5)
    shares = [
        taken(pipeline(source).training_batches(0, shard=Shard(4, w * 4 // workers, 4 // workers)),
              5 * 4 // workers)
        for w in range(workers)
    ]  # fmt: skip
    for k, batch in enumerate(whole):
        per = 4 // workers
        parts = [part for share in shares for part in share[k * per : (k + 1) * per]]
        np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), batch.images)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_worker_reads_only_its_own_files_of_a_stream(tmp_path, shuffle):
    records = [example(i, image_bytes=png(i % 25), kind=float(i % 3)) for i in range(32)]
    paths = [write(tmp_path / f"r{i:02d}", records[2 * i : 2 * i + 2])[0] for i in range(16)]
    stream = read_stream(paths, SCHEMA, options(tmp_path), block=8, vocabularies={})
    batches = pipeline(stream, batch_size=8, shuffle=shuffle)
    for worker in range(2):
        mine = taken(batches.training_batches(0, shard=Shard(2, worker)), 4)
        ids = np.concatenate([batch.ids for batch in mine])
        others = [path for i, path in enumerate(paths) if i not in ids // 2]
        assert len(others) == 8
        kept = {path: Path(path).read_bytes() for path in others}
        for path in others:
            os.remove(path)
        assert_same(taken(batches.training_batches(0, shard=Shard(2, worker)), 4), mine)
        for path, data in kept.items():
            Path(path).write_bytes(data)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    raw = read_table(write(folder / "r", legacy()), SCHEMA, options(folder))
    return raw.encode(SCHEMA.with_vocabularies({"kind": ("0", "1", "2")}))


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("batch_size", [1, 4, 5, 13, 16])
def test_an_evaluation_sees_every_example_once_in_order(table, batch_size):
    batches = list(pipeline(table, batch_size=batch_size).evaluation_batches())
    ids = np.concatenate([batch.ids.numpy() for batch in batches])
    assert ids[:COUNT].tolist() == list(range(COUNT))
    assert (ids[COUNT:] == -1).all()
    present = np.concatenate([batch.mask["kind"].numpy() for batch in batches])
    assert present.tolist() == (ids >= 0).tolist()


def test_an_index_and_a_stream_count_and_name_alike(tmp_path):
    paths = write(tmp_path / "r", legacy(), "GZIP")
    stream = read_stream(paths, SCHEMA, options(tmp_path), block=4, vocabularies={})
    raw = read_table(paths, SCHEMA, options(tmp_path))
    assert (stream.num_examples, stream.fingerprint) == (raw.num_examples, raw.fingerprint)
    assert stream.locate(7) == raw.locate(7)


def test_a_changed_file_is_indexed_anew(tmp_path):
    paths = write(tmp_path / "r", legacy(), "GZIP")
    before = read_table(paths, SCHEMA, options(tmp_path)).fingerprint
    write(tmp_path / "r", legacy()[:-1], "GZIP")
    raw = read_table(paths, SCHEMA, options(tmp_path))
    assert raw.num_examples == COUNT - 1 and raw.fingerprint != before


def test_a_wrong_label_in_a_stream_is_named(tmp_path):
    paths = write(tmp_path / "r", [*legacy(), example(0, image_bytes=png(0), kind=9.0)])
    stream = read_stream(paths, SCHEMA, options(tmp_path), block=4, vocabularies={})
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    feed = DistributedBatches(pipeline(stream), strategy, is_training=True, skip_bad_images=False)
    batches = feed.start(0)
    with pytest.raises(DataError, match="record 13: label 'kind' is 9"):
        for k in range(4):
            try:
                next(batches)
            except tf.errors.OpError as error:
                feed.explain_failure(4 * k, error)


@pytest.fixture(params=["folder", "records"])
def damaged(request, tmp_path):
    """A table whose examples 2, 5 and 7 are no images: empty, cut, text; 9 is too large."""
    data = [png(i) for i in range(COUNT)]
    data[2] = data[2][:-25] if request.param == "records" else b""
    data[5], data[7] = data[5][: len(data[5]) // 2], b"<html></html>"
    data[9] = tf.io.encode_png(tf.zeros([11, 11, 3], tf.uint8)).numpy()
    if request.param == "folder":
        for i, content in enumerate(data):
            (tmp_path / "f" / KINDS[i % 3]).mkdir(parents=True, exist_ok=True)
            (tmp_path / "f" / KINDS[i % 3] / f"{i}.png").write_bytes(content)
        raw = read_table([str(tmp_path / "f")], SCHEMA, options(tmp_path))
    else:
        records = [
            example(i, image_bytes=content, kind=float(i % 3)) for i, content in enumerate(data)
        ]
        raw = read_table(write(tmp_path / "r", records), SCHEMA, options(tmp_path))
    vocabulary = {"kind": raw.vocabulary(SCHEMA["kind"])}
    return raw.encode(SCHEMA.with_vocabularies(vocabulary))


def make_feed(source, *, skips, seen=None, **changes):
    return DistributedBatches(
        pipeline(source, **changes),
        tf.distribute.OneDeviceStrategy("CPU:0"),
        is_training=False,
        skip_bad_images=skips,
        on_skip=seen,
    )


def test_a_bad_image_is_named_by_file_or_record(damaged):
    with pytest.raises(BadImageError, match=r"\.png|r record \d+"):
        list(make_feed(damaged, skips=False).evaluation())


@pytest.mark.slow
def test_skipped_images_are_counted_once_and_the_rest_is_unchanged(damaged):
    seen = []
    feed = make_feed(damaged, skips=True, seen=seen.append)
    first = list(feed.evaluation())
    assert len(feed.bad_images) == 4 and len(seen[-1]) == 4
    ids = np.concatenate([batch.ids.numpy() for batch in first])
    assert sorted(ids[ids >= 0].tolist()) == sorted(set(range(COUNT)) - set(feed.bad_images))
    calls = len(seen)
    assert_same(
        [tf.nest.map_structure(lambda x: x.numpy(), b) for b in feed.evaluation()],
        [tf.nest.map_structure(lambda x: x.numpy(), b) for b in first],
    )
    assert len(seen) == calls  # a second pass finds nothing new


@pytest.mark.slow
def test_nothing_but_bad_images_is_an_error(table):
    with pytest.raises(DataError, match="Not one image"):
        list(make_feed(table, skips=True, max_image_pixels=10).evaluation())


def test_shards_are_written_whole_or_not_at_all(tmp_path):
    def failing():
        yield png(0), "0", {"kind": 0.0}
        raise KeyError("no more")

    with pytest.raises(KeyError):
        tfrecord.write_shards(str(tmp_path), "train", failing(), num_shards=2)
    assert not list(tmp_path.iterdir())
    paths = tfrecord.write_shards(
        str(tmp_path), "train", ((png(i), str(i), {"kind": float(i % 3)}) for i in range(5)),
        num_shards=2,
    )  # fmt: skip
    assert [p.rsplit("/", 1)[1] for p in paths] == [
        "train-00000-of-00002.tfrecord.gz", "train-00001-of-00002.tfrecord.gz",
    ]  # fmt: skip
    assert read_table([str(tmp_path)], SCHEMA, options(tmp_path)).num_examples == 5
