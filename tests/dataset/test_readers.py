"""Sources as people have them: split roots, tables of every dialect, links, shards."""

import collections
import gzip
import json
import os
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from dataset.test_data_path import write
from dataset.tiny_sources import example, png
from tf_image_classification.dataset.readers import find_examples, for_role, has_evaluation_part
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import DataError
from tf_image_classification.labels import Label, LabelSchema


def make(root, *names):
    """Files below a folder, images where their names say so; returns the folder's path."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number) if name.lower().endswith((".png", ".jpg")) else b"x")
    return str(root)


def found_in(*patterns, **options):
    return find_examples(list(patterns), option="train_metadata", **options)


def by_name(listing, column="label"):
    return dict(zip(listing.names, listing.columns[column], strict=True))


def table_of(path, labels=(("label", 2),), **options):
    schema = LabelSchema(tuple(Label(name, depth=depth) for name, depth in labels))
    cache = os.path.join(os.path.dirname(path), "cache")
    raw = read_table([path], schema, SourceOptions(option="o", cache_dir=cache, **options))
    named = {label.name: raw.vocabulary(label) for label in schema}
    return raw.encode(schema.with_vocabularies(named))


# A data set that is divided into parts


SPLIT_ROOTS = {
    "folders": ["train/ant/1.png", "train/bee/2.png", "val/ant/3.png"],
    "valid": ["train/ant/1.png", "train/bee/2.png", "valid/ant/3.png"],
    "capitals": ["Train/ant/1.png", "Train/bee/2.png", "Validation/ant/3.png"],
    "test only": ["train/ant/1.png", "train/bee/2.png", "test/ant/3.png"],
    "with a note beside": [
        "train/ant/1.png", "train/bee/2.png", "eval/ant/3.png", "README.md", "__MACOSX/train/x",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", SPLIT_ROOTS)
def test_a_folder_with_train_and_val_is_divided(tmp_path, case):
    root = make(tmp_path / "pets", *SPLIT_ROOTS[case])
    listing = found_in(root)
    assert set(listing.columns["label"]) == {"ant", "bee"}
    assert len(for_role(listing, "train", root)) == 2
    (name,) = for_role(listing, "eval", root).names
    assert name.endswith("/ant/3.png") and has_evaluation_part([root], "train_metadata")
    assert [*found_in(f"{root}:train").columns["label"]] == ["ant", "bee"]


def test_the_validation_part_is_evaluated_and_the_test_part_kept_apart(tmp_path):
    files = ["train/ant/1.png", "train/bee/2.png", "val/ant/3.png", "test/ant/4.png"]
    listing = found_in(root := make(tmp_path, *files))
    assert [*for_role(listing, "eval", root).names] == ["val/ant/3.png"]
    assert [*found_in(f"{root}:test").names] == ["test/ant/4.png"]
    with pytest.raises(DataError, match="has 0 parts called 'tset'|no file matches"):
        found_in(f"{root}:tset")


AMBIGUOUS = {
    "a class beside the parts": (["train/a/1.png", "val/a/2.png", "bus/3.png"], "but also bus"),
    "two validation parts": (["train/a/1.png", "val/a/2.png", "dev/a/3.png"], "val.*dev"),
    "tables beside the parts": (["train/a/1.png", "val/a/2.png", "train.csv"], "train.csv"),
    "parts inside the classes": (
        ["a/train/1.png", "a/val/2.png", "b/train/3.png", "b/val/4.png"], "a is divided into train",
    ),
    "one folder too high": (["pets/a/1.png", "pets/b/2.png"], "Name .*pets[.]"),
    "images without classes": (["train/1.png", "val/2.png"], "train has no class folders"),
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_a_folder_that_may_mean_two_things_is_refused_with_what_to_type(tmp_path, case):
    names, message = AMBIGUOUS[case]
    with pytest.raises(DataError, match=message):
        found_in(make(tmp_path, *names))


def test_classes_that_are_called_like_one_part_are_classes(tmp_path):
    root = make(tmp_path, "train/1.png", "bus/2.png")
    assert by_name(found_in(root)) == {"bus/2.png": "bus", "train/1.png": "train"}
    assert not has_evaluation_part([root], "train_metadata")


def test_records_and_tables_of_a_folder_are_divided_by_their_names(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        records = [example(i, image_bytes=png(i), label=i % 2) for i in range(count)]
        (tmp_path / "records").mkdir(exist_ok=True)
        write(tmp_path / "records" / f"pets-{part}.tfrecord-00000-of-00001", records)
        (tmp_path / "tables").mkdir(exist_ok=True)
        make(tmp_path / "tables", "1.png")
        rows = "".join(f"1.png,{'ab'[i % 2]}\n" for i in range(count))
        (tmp_path / "tables" / f"{part}.csv").write_text(rows)
    for name in ("records", "tables"):
        root = str(tmp_path / name)
        listing = found_in(root)
        sizes = [len(for_role(listing, role, root)) for role in ("train", "eval")]
        assert sizes == [3, 2] and has_evaluation_part([root], "train_metadata")


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("file,label,split", ["train", "train", "val"]),
        ("file,class,Subset", ["Training", "Training", "Test"]),
        ("file,label,is_valid", ["False", "False", "True"]),
    ],
)
def test_a_column_of_a_csv_divides_it(tmp_path, header, parts):
    make(tmp_path, "1.png", "2.png", "3.png")
    rows = [f"{i + 1}.png,{'aba'[i]},{part}" for i, part in enumerate(parts)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows]))
    listing = found_in(str(path))
    assert [*for_role(listing, "eval", "t").names] == ["3.png"]
    assert list(listing.columns) == [header.split(",")[1]]
    assert has_evaluation_part([str(path)], "train_metadata")


# Folders


def test_files_of_the_system_are_no_classes_and_no_images(tmp_path):
    names = ["cat/1.png", "dog/2.png", "__MACOSX/cat/._1.png", "lost+found/x", "Desktop.ini"]
    names += ["cat/@eaDir/1.png/THUMB.jpg", "cat/.ipynb_checkpoints/1.png", "cat/Thumbs.db"]
    listing = found_in(make(tmp_path, *names))
    assert by_name(listing) == {"cat/1.png": "cat", "dog/2.png": "dog"}
    assert {os.path.relpath(each.where, tmp_path) for each in listing.left_out} == {
        "__MACOSX", "lost+found", "Desktop.ini", "cat/@eaDir", "cat/.ipynb_checkpoints",
        "cat/Thumbs.db",
    }  # fmt: skip
    assert not listing.damaged


def test_a_class_name_is_the_same_however_its_letters_are_composed(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    make(tmp_path, f"train/{composed}/1.png", "train/tea/2.png", f"eval/{apart}/3.png")
    assert [*found_in(str(tmp_path / "eval")).columns["label"]] == [composed]
    make(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text(f"URIs,label\n1.png,{apart}\n")
    assert [*found_in(str(tmp_path / "t.csv")).columns["label"]] == [composed]
    records = write(tmp_path / "r", [example(0, image_bytes=png(0), label=apart.encode())])
    assert [*found_in(*records).columns["label"]] == [composed]


def test_a_path_is_found_however_its_letters_are_composed(tmp_path):
    make(tmp_path, unicodedata.normalize("NFD", "images/café.png"))
    name = unicodedata.normalize("NFC", "images\\café.png")
    (tmp_path / "t.csv").write_text(f"{name},a\n")
    assert len(found_in(str(tmp_path / "t.csv"))) == 1


LINKS = {
    "to the parent": ("x/up", ".."),
    "to itself": ("x/self", "."),
    "to another class": ("x/y", "../y"),
    "as a class": ("z", "y"),
    "to the root's parent": ("x/out", "../.."),
}


@pytest.mark.parametrize("case", LINKS)
def test_a_link_back_into_the_source_is_left_out(tmp_path, case):
    root = tmp_path / "pets"
    make(root, "x/1.png", "y/2.png")
    link, target = LINKS[case]
    (root / link).symlink_to(target)
    listing = found_in(str(root))
    assert by_name(listing) == {"x/1.png": "x", "y/2.png": "y"}
    (left_out,) = listing.left_out
    assert left_out.where == str(root / link) and "read under its own name" in left_out.reason


def test_links_out_of_the_source_are_followed_once_a_class(tmp_path):
    make(tmp_path / "pool", "1.png", "deep/2.png")
    (tmp_path / "pool" / "deep" / "loop").symlink_to("..")
    root = tmp_path / "pets"
    make(root, "x/own.png", "y/own.png")
    (root / "x" / "a").symlink_to(tmp_path / "pool")
    (root / "x" / "b").symlink_to(tmp_path / "pool")
    (root / "y" / "one.png").symlink_to(tmp_path / "pool" / "1.png")
    (root / "y" / "again.png").symlink_to(tmp_path / "pool" / "1.png")
    (root / "y" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    listing = found_in(str(root))
    assert collections.Counter(listing.columns["label"]) == {"x": 3, "y": 2}
    assert [os.path.basename(each.where) for each in listing.damaged] == ["gone.png"]


def test_images_of_formats_that_are_not_read_are_named_by_their_format(tmp_path):
    names = ["a/1.png", "b/2.png", "a/3.HEIC", "a/4.heic", "b/5.tif", "b/6.avif", "b/7.jp2"]
    table = table_of(make(tmp_path, *names))
    assert table.num_examples == 2
    notes = "\n".join(table.notes)
    for name, count in (("HEIC", 2), ("TIFF", 1), ("AVIF", 1), ("JPEG 2000", 1)):
        what = "file or row" if count == 1 else "files or rows"
        assert f"skipped {count} {what}, e.g." in notes
        assert f"{name} is not read: convert" in notes


# Tables


CSVS = {
    "headerless": "1.png,ant\n2.png,bee\n",
    "label first": "ant,1.png\nbee,2.png\n",
    "contract": "URIs,labels\n1.png,ant\n2.png,bee\n",
    "path": "path,label\n1.png,ant\n2.png,bee\n",
    "file name": "File Name,Class\n1.png,ant\n2.png,bee\n",
    "image_path": "label,image_path\nant,1.png\nbee,2.png\n",
    "unknown header": "id_code,diagnosis\n1.png,ant\n2.png,bee\n",
    "index": ",URIs,label\n0,1.png,ant\n1,2.png,bee\n",
    "named index": "Unnamed: 0,file,label\n0,1.png,ant\n1,2.png,bee\n",
    "headerless index": "0,1.png,ant\n1,2.png,bee\n",
    "trailing comma": "URIs,label,\n1.png,ant,\n2.png,bee,\n",
    "semicolon": "URIs;label\n1.png;ant\n2.png;bee\n",
    "tab": "filename\tclass\n1.png\tant\n2.png\tbee\n",
    "pandas tab": "\tfilename\tclass\n0\t1.png\tant\n1\t2.png\tbee\n",
    "spaces": "1.png ant\n2.png  bee\n",
    "bar": "image|label\n1.png|ant\n2.png|bee\n",
    "quotes": '"URIs","label"\n"1.png","ant"\n"2.png","bee"\n',
    "windows": "\ufeffURIs,label\r\n1.png,ant\r\n2.png,bee\r\n",
    "spaces around": "URIs , label\n1.png , ant\n2.png, bee \n",
    "backslashes": "path,label\n.\\1.png,ant\n.\\2.png,bee\n",
    "file scheme": "uri,label\nfile://{folder}/1.png,ant\nfile://{folder}/2.png,bee\n",
    "cloud import": "TRAIN,1.png,ant\nUNASSIGNED,2.png,bee\n",
}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz"])
@pytest.mark.parametrize("case", CSVS)
def test_a_table_is_read_however_it_is_written(tmp_path, case, name):
    make(tmp_path, "1.png", "2.png")
    data = CSVS[case].format(folder=tmp_path).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    listing = found_in(str(tmp_path / name))
    ((column, labels),) = listing.columns.items()
    assert [*labels] == ["ant", "bee"] and column.lower() in ("label", "class", "diagnosis")
    assert [place.path for place in map(listing.places.__getitem__, range(2))]
    assert listing.places[0].read() == png(0) and not listing.left_out
    assert table_of(str(tmp_path / name)).columns["label"].values.tolist() == [0, 1]


def test_a_list_of_paths_may_have_spaces_in_them(tmp_path):
    make(tmp_path, "my photo 1.png", "2.png")
    (tmp_path / "t.txt").write_text("my photo 1.png\n2.png\n")
    assert [*found_in(str(tmp_path / "t.txt")).names] == ["my photo 1.png", "2.png"]


BAD_ROWS = {
    "a folder": ("images,ant", "this is a folder"),
    "no file": ("3.png,ant", "there is no file '3.png'"),
    "no path": (",ant", "names no image"),
    "too few cells": ("1.png", "has 1 cells, expected 2"),
    "too many cells": ("1.png,ant,hill", "has 3 cells, expected 2"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_is_no_example_is_named_before_the_first_step(tmp_path, case):
    make(tmp_path, "1.png", "2.png", "images/x.png")
    row, message = BAD_ROWS[case]
    path = tmp_path / "t.csv"
    path.write_text(f"URIs,label\n1.png,ant\n{row}\n2.png,bee\n")
    with pytest.raises(DataError, match=f"t.csv line 3: {message}.*--on_bad_image skip"):
        table_of(str(path))
    table = table_of(str(path), skips_damaged=True)
    assert table.num_examples == 2 and [str(each) for each in table.left_out]
    assert "line 3" in table.left_out[0].where


def test_a_header_says_the_delimiter_whatever_stands_in_the_paths(tmp_path):
    make(tmp_path, "0;.png", "1;.png", "2;.png")
    (tmp_path / "t.csv").write_text("URIs,labels\n0;.png,ant\n1;.png\n2;.png\n")
    listing = found_in(str(tmp_path / "t.csv"))
    assert by_name(listing) == {"0;.png": "ant"} and len(listing.left_out) == 2


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_rows_without_a_label_are_named_also_where_most_lack_one(tmp_path, mark):
    make(tmp_path, *(f"{i}.png" for i in range(5)))
    rows = [f"0.png{mark}ant", f"1.png{mark}bee", "2.png", "3.png", "4.png"]
    for header in ([], [f"URIs{mark}label"]):
        (tmp_path / "t.csv").write_text("\n".join([*header, *rows]))
        listing = found_in(str(tmp_path / "t.csv"))
        assert by_name(listing) == {"0.png": "ant", "1.png": "bee"}
        numbers = [int(each.where.rpartition(" ")[2]) for each in listing.left_out]
        assert numbers == [number + len(header) for number in (3, 4, 5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,image,label\n1.png,2.png,ant\n", "columns 'file' and 'image' may both"),
        ("URIs,,label\n1.png,x,ant\n", "column 2 has no name"),
        ("1.png,ant,hill\n2.png,bee,tree\n", "line 1 has 3 cells, expected path,label"),
        ("URIs,label\n1.png,ant\n".encode("utf-16-be"), "NUL|UTF-8"),
    ],
)
def test_a_table_that_may_mean_two_things_is_refused(tmp_path, content, message):
    make(tmp_path, "1.png", "2.png")
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=message):
        found_in(str(tmp_path / "t.csv"))


def test_whole_numbers_that_pandas_wrote_with_a_point_are_the_same_classes(tmp_path):
    make(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text("URIs,label\n1.png,1.0\n1.png,\n1.png,0.0\n")
    assert [*found_in(str(tmp_path / "t.csv")).columns["label"]] == ["1", "", "0"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("set.zip", "Unpack it"), ("set.xlsx", "Save it as CSV"), ("set.jsonl", "Write a CSV"),
        ("one.png", "a single image"), ("set.npz", "as PNG files"),
        ("set.docx", "not a TFRecord file"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_source_is_told_what_to_do(tmp_path, name, message):
    make(tmp_path, name)
    with pytest.raises(DataError, match=message):
        found_in(str(tmp_path / name))


# Records and shards


def write_shards(folder, numbers, count):
    folder.mkdir(exist_ok=True)
    for i in numbers:
        records = [example(i, image_bytes=png(i), label=i % 2)]
        write(folder / f"train-{i:05d}-of-{count:05d}.tfrecord", records)
    return str(folder)


@pytest.mark.parametrize("pattern", ["", "/train-*", "/train-00003-of-00005.tfrecord"])
def test_a_missing_shard_is_named(tmp_path, pattern):
    folder = write_shards(tmp_path / "r", (0, 1, 3, 4), 5)
    with pytest.raises(DataError, match="1 of the shards .* missing: train-00002-of-00005"):
        found_in(folder + pattern)


def test_shards_that_are_there_may_be_left_out_on_purpose(tmp_path):
    folder = write_shards(tmp_path / "r", range(3), 3)
    assert len(found_in(f"{folder}/train-0000[01]*")) == 2


def test_records_are_as_many_as_their_description_promises(tmp_path):
    folder = write_shards(tmp_path / "r", range(2), 2)
    told = {"paths": sorted(os.listdir(folder)), "num_examples": {"train": 3}}
    (tmp_path / "r" / "dataset.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"promises 3 images in train, but its 2 files hold 2"):
        found_in(folder)
    told["paths"].append("train-00002-of-00002.tfrecord")
    (tmp_path / "r" / "dataset.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"shards .* are missing: train-00002-of-00002"):
        found_in(folder)


def test_a_record_with_two_images_is_refused(tmp_path):
    two = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png(0), png(1)]))
    features = {"image_bytes": two, "label": tf.train.Feature()}
    record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    good = [example(i, image_bytes=png(i), label=i % 2) for i in range(2)]
    (path,) = write(tmp_path / "r.tfrecord", [*good, record])
    with pytest.raises(DataError, match="record 2: its feature 'image_bytes' holds 2 images"):
        table_of(path)
    assert table_of(path, skips_damaged=True).num_examples == 2


def test_numbers_in_records_are_classes_by_value(tmp_path):
    numbers = [4011, 94011, 3_000_000_001, 4011]
    records = [example(i, image_bytes=png(i), taxon=n) for i, n in enumerate(numbers)]
    paths = write(tmp_path / "r.tfrecord", records)
    from tf_image_classification.dataset.label_discovery import find_labels

    (label,) = find_labels(found_in(*paths))
    assert label.class_names == ("4011", "94011", "3000000001")
    schema = LabelSchema((label,))
    options = SourceOptions(option="o", cache_dir=str(tmp_path / "cache"))
    column = read_table(paths, schema, options).encode(schema).columns["taxon"]
    assert column.values.tolist() == [0, 1, 2, 0]
    with pytest.raises(DataError, match=r"record 0: label 'taxon' is 4011, expected .* 0 to 2"):
        table_of(paths[0], labels=[("taxon", 3)])


def test_class_numbers_of_a_parquet_file_get_the_names_of_its_schema(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    features = {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    images = [{"bytes": png(i), "path": None} for i in range(3)]
    table = pa.table({"image": images, "label": [1, 0, -1]}).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    listing = found_in(str(tmp_path / "t.parquet"))
    assert [*listing.columns["label"]] == ["bee", "ant", ""]


# Whatever can be read can be trained on


def test_every_kind_of_source_gives_a_training_the_bytes_that_a_conversion_gets(tmp_path):
    from conversion.test_file_kinds import write_idx, write_tar

    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    make(tmp_path / "folder", "a/1.png", "b/2.png")
    write_tar(tmp_path / "t.tar", [("1.png", png(0)), ("1.cls", b"a"), ("2.png", png(1)),
                                   ("2.cls", b"b")])  # fmt: skip
    data = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress(data))
    pixels = pa.table({"image": [png(0), png(1)], "label": ["a", "b"]})
    pyarrow.parquet.write_table(pixels, tmp_path / "t.parquet")
    (tmp_path / "idx").mkdir()
    write_idx(tmp_path / "idx", "train", 2, 10)
    (tmp_path / "cifar").mkdir()
    planes = np.arange(3 * 32 * 32, dtype=np.uint8).tobytes()
    (tmp_path / "cifar" / "data_batch_1.bin").write_bytes(b"\0" + planes + b"\1" + planes[::-1])
    for name in ("folder", "t.tar", "t.tar.gz", "t.parquet", "idx", "cifar"):
        listing = found_in(str(tmp_path / name))
        table = table_of(str(tmp_path / name))
        fetched = table.fetch(tf.constant([1, 0], tf.int64)).numpy()
        assert fetched.tolist() == [listing.places[i].encoded() for i in (1, 0)], name
        assert table.columns["label"].values.tolist() == [0, 1], name
        assert table_of(str(tmp_path / name)).fingerprint == table.fingerprint


@pytest.mark.parametrize(
    ("kind", "present", "values"),
    [
        ("single-label", [True, False, False, True], [1, 0, 0, 0]),
        ("multilabel", [True, True, False, True], [[0, 1], [0, 0], [0, 0], [1, 0]]),
    ],
)
def test_an_empty_text_in_a_record_is_none_of_several_classes(tmp_path, kind, present, values):
    from tf_image_classification.dataset.label_discovery import find_labels

    texts = [{"pet": b"dog"}, {"pet": b""}, {}, {"pet": b"cat"}]
    records = [example(i, image_bytes=png(i), **text) for i, text in enumerate(texts)]
    (path,) = write(tmp_path / "r.tfrecord", records)
    [found] = find_labels(found_in(path))
    assert (found.kind, found.class_names) == ("single-label", ("cat", "dog"))
    schema = LabelSchema((Label("pet", depth=2, kind=kind, class_names=("cat", "dog")),))
    options = SourceOptions(option="o", cache_dir=str(tmp_path / "cache"))
    column = read_table([path], schema, options).encode(schema).columns["pet"]
    assert column.mask.tolist() == present and column.values.tolist() == values
