"""Files that hold many images: what is read of them, and what is said of damaged ones."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from conversion.small_sources import ONE, read_back, records_of, rows_of_source
from dataset.tiny_sources import png
from tf_image_classification.conversion.images import ImageOptions
from tf_image_classification.dataset.image.decode import decode_image
from tf_image_classification.errors import DataError
from tf_image_classification.labels import Label
from tf_image_classification.workflows.convert import ConvertOptions, convert


def write_idx(folder, prefix, count, offset):
    images = (np.arange(count)[:, None, None] + offset + np.zeros([count, 5, 4])).astype(np.uint8)
    head = struct.pack(">IIII", 0x803, count, 5, 4)
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(head + images.tobytes())
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">II", 0x801, count) + bytes(i % 3 for i in range(count)))


@pytest.mark.parametrize("kind", ["keep", "ppm"])
def test_idx_files_keep_their_own_parts(tmp_path, kind):
    write_idx(tmp_path, "train", 7, 10)
    write_idx(tmp_path, "t10k", 4, 50)
    options = ConvertOptions(images=ImageOptions(format=kind), **ONE)
    summary = convert(str(tmp_path), str(tmp_path / "out"), options)
    assert summary.num_examples == {"test": 4, "train": 7}
    pattern = str(tmp_path / "out" / "train-*")
    columns, pixels = read_back(pattern, [Label("label", depth=3)], tmp_path)
    assert sorted(pixels) == list(range(10, 17))
    assert columns["label"] == [(pixel - 10) % 3 for pixel in pixels]
    start = {"keep": b"\x89PNG", "ppm": b"P5"}[kind]
    features = records_of(summary.paths)
    assert all(f["image_bytes"].bytes_list.value[0].startswith(start) for f in features)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x04\0"))
    with pytest.raises(DataError, match="cut short"):
        convert(str(tmp_path), str(tmp_path / "again"), options)


def test_cifar_binary_files_have_planes_and_names(tmp_path):
    pixels = np.zeros([2, 3, 32, 32], np.uint8)
    pixels[0, 0], pixels[1, 2] = 200, 90
    for name in ("data_batch_1.bin", "test_batch.bin"):
        data = b"".join(bytes([i]) + pixels[i].tobytes() for i in range(2))
        (tmp_path / name).write_bytes(data)
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\n")
    summary = convert(str(tmp_path), str(tmp_path / "out"), ConvertOptions(shuffle=False, **ONE))
    assert summary.num_examples == {"train": 2, "test": 2} and list(summary.classes) == [
        "car", "plane",
    ]  # fmt: skip
    first = next(records_of(summary.paths))
    image = decode_image(first["image_bytes"].bytes_list.value[0], max_pixels=2000).numpy()
    assert image[5, 5].tolist() == [200, 0, 0] and first["label"].bytes_list.value[0] == b"plane"


def write_tar(path, members):
    """Members by name: their data, or the name of the member that they are a hard link to."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.LNKTYPE, data
                data = b""
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def test_tar_files_of_webdataset_are_read(tmp_path):
    members = [
        ("x/1.png", png(5)), ("x/1.cls", b"3"), ("x/1.json", b'{"age": 4, "who": "me"}'),
        ("x/2.png", png(6)), ("x/2.cls", b"0"), ("x/3.cls", b"1"), ("x/4.bin", b"?"),
    ]  # fmt: skip
    write_tar(tmp_path / "a.tar", members)
    summary = convert(str(tmp_path / "a.tar"), str(tmp_path / "out"), ConvertOptions(**ONE))
    assert summary.num_examples == {"train": 2} and summary.num_rows == 4
    assert {each.reason for each in summary.refused} == {
        "has no image", "neither image, class nor JSON",
    }  # fmt: skip
    features = {f["image_uri"].bytes_list.value[0]: f for f in records_of(summary.paths)}
    assert features[b"x/1"]["who"].bytes_list.value[0] == b"me"
    assert features[b"x/1"]["label"].bytes_list.value[0] == b"3"  # there is no class 1 or 2


def test_links_and_second_images_of_a_tar_are_not_lost(tmp_path):
    members = [("1.png", png(5)), ("1.jpg", png(6)), ("2.png", "1.png"), ("3.png", "gone.png")]
    write_tar(tmp_path / "a.tar", [*members, ("1.cls", b"0"), ("2.cls", "1.cls")])
    rows, refused = rows_of_source(str(tmp_path / "a.tar"))
    assert [(row.key, row.place.read(), row.columns) for row in rows] == [
        (key, png(5), {"label": 0}) for key in "12"
    ]
    reasons = {each.where.rpartition(" ")[2]: each.reason for each in refused}
    assert "has an image already, 1.png" in reasons["1.jpg"] and "hard link" in reasons["3.png"]


def test_labels_of_every_type_of_a_parquet_file_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    def labels_of(column):
        table = pa.table({"image": [png(5), png(6)], "label": column})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        return [row.columns["label"] for row in rows_of_source(str(tmp_path / "a.parquet"))[0]]

    texts = pa.array(["b", "a"])
    for column in (texts.cast(pa.large_string()), texts.dictionary_encode()):
        assert labels_of(column) == ["b", "a"]
    assert labels_of(pa.array([True, False])) == [1, 0]
    with pytest.raises(DataError, match=r"'label' is of type list<.*expected texts"):
        labels_of(pa.array([[1], [0]]))


def test_parquet_files_with_images_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    images = [{"bytes": png(5), "path": "a.png"}, {"bytes": png(6), "path": "b.png"}]
    table = pa.table({"image": images, "label": [1, 0], "text": ["x", None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    summary = convert(
        str(tmp_path / "a.parquet"), str(tmp_path / "out"), ConvertOptions(shuffle=False, **ONE)
    )
    columns, pixels = read_back(summary.paths[0], [Label("label", depth=2)], tmp_path)
    assert pixels == [5, 6] and columns["label"] == [1, 0]


def write_records(path, *examples, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for features in examples:
            given = {n: tf.train.Feature(**{kind: v}) for n, (kind, v) in features.items()}
            example = tf.train.Example(features=tf.train.Features(feature=given))
            writer.write(example.SerializeToString())


def texts(*values):
    return "bytes_list", tf.train.BytesList(value=values)


def floats(*values):
    return "float_list", tf.train.FloatList(value=values)


def test_a_record_or_cell_without_an_image_is_refused_and_large_numbers_are_kept(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    write_records(
        tmp_path / "a.tfrecord",
        {"image_bytes": texts(), "x": floats(1)},
        {"image_bytes": texts(png(1)), "x": floats(1e20)},
    )
    table = pa.table({"image": [None, png(1)], "x": pa.array([1, 2**63], pa.uint64())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name, number in (("a.tfrecord", "record 0"), ("a.parquet", "row 0")):
        source = str(tmp_path / name)
        summary = convert(source, str(tmp_path / f"{name}.out"), ConvertOptions(**ONE))
        (refused,) = summary.refused
        assert refused.where == f"{source} {number}" and "holds no image" in refused.reason
        (features,) = records_of(summary.paths)
        if name == "a.tfrecord":
            assert features["x"].float_list.value[0] == np.float32(1e20)
        else:
            assert features["x"].bytes_list.value[0] == b"9223372036854775808"


MEMBERS = [("1.png", b"x" * 2000), ("1.cls", b"0"), ("2.png", b"x" * 2000), ("2.cls", b"1")]


def write_damaged(path, kind):
    """A file of a kind that is not as it should be."""
    if kind in ("cut.tar", "cut header.tar", "cut.tar.gz", "damaged.tar"):
        write_tar(path, MEMBERS)
        data = bytearray(path.read_bytes())
        data[3584:3590] = b"?????!" if kind == "damaged.tar" else data[3584:3590]
        packed = gzip.compress(data) if kind.endswith("gz") else bytes(data)
        end = {"cut.tar": 1500, "cut header.tar": 2700, "cut.tar.gz": 90}.get(kind)
        path.write_bytes(packed[:end])
    elif kind.endswith("tar"):
        said = {"bad.json.tar": b"{", "list.json.tar": b"[1]", "latin.txt.tar": b"caf\xe9"}[kind]
        write_tar(path, [("1.png", b"x"), (f"1.{kind.split('.')[1]}", said)])
    elif kind.endswith("gz"):
        write_records(path, {"image_bytes": texts(b"x" * 999)}, compression="GZIP")
        path.write_bytes(path.read_bytes()[:-12])
    elif kind == "foreign.tfrecord":
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(b"garbage")
    else:
        path.write_bytes(b"PAR1 and nothing else")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut.tar", "cannot be read as a tar file"),
        ("cut header.tar", "no member begins at byte 2560"),
        ("damaged.tar", "no member begins at byte 3584"),
        ("cut.tar.gz", "cannot be read as a tar file"),
        ("bad.json.tar", r": 1\.json is not JSON"),
        ("list.json.tar", r": 1\.json holds '\[1\]', expected names"),
        ("latin.txt.tar", r": 1\.txt is not UTF-8"),
        ("cut.tfrecord.gz", "is cut"),
        ("foreign.tfrecord", "record 0 is not a tf.train.Example"),
        ("cut.parquet", "cannot be read as a Parquet file"),
    ],
)
def test_a_damaged_file_is_told_by_its_name(tmp_path, kind, message):
    write_damaged(tmp_path / kind, kind)
    with pytest.raises(DataError, match=message) as caught:
        rows_of_source(str(tmp_path / kind))
    assert str(tmp_path / kind) in str(caught.value)


def test_records_that_are_compressed_by_zlib_are_read(tmp_path):
    write_records(tmp_path / "a.tfrecord", {"image_bytes": texts(b"x")}, compression="ZLIB")
    rows, _ = rows_of_source(str(tmp_path / "a.tfrecord"))
    assert [row.place.read() for row in rows] == [b"x"]


def test_true_and_false_in_json_are_numbers(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.png", png(1)), ("1.json", b'{"label": true}')])
    rows, _ = rows_of_source(str(tmp_path / "a.tar"))
    assert repr(rows[0].columns["label"]) == "1"


def test_labels_that_idx_or_cifar_files_lack_are_told(tmp_path):
    write_idx(tmp_path, "train", 2, 0)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="expected train-labels-idx1-ubyte.gz beside it"):
        rows_of_source(str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "test_batch.bin").write_bytes(bytes([7]) + bytes(3072))
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\n")
    with pytest.raises(DataError, match=r"image 0 is of class 7, but batches\.meta.* only 2"):
        rows_of_source(str(tmp_path))


def test_several_classes_of_a_record_are_kept(tmp_path):
    features = {"image_bytes": texts(png(1)), "label": texts(b"cat", b"dog")}
    write_records(tmp_path / "a.tfrecord", features)
    rows, _ = rows_of_source(str(tmp_path / "a.tfrecord"))
    assert rows[0].columns == {"label": "cat|dog"}
