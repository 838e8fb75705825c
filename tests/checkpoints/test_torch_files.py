"""PyTorch's files: tensors are read exactly, and nothing else in a file is carried out."""

import io
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest

from tf_image_classification.checkpoints.torch_files import file_in, read_torch
from tf_image_classification.errors import CheckpointError

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
FLOAT, LONG = "torch FloatStorage", "torch LongStorage"


class Global(str):
    """A name for the pickle's GLOBAL."""


class Call(tuple):
    """(function, arguments) for the pickle's REDUCE."""


class Stored(tuple):
    """(storage class, key, number of values), a persistent id."""


def pickled(value):
    """The bytes of a pickle of protocol 2, written operation by operation."""
    return b"\x80\x02" + _code(value) + b"."


def _code(value):
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case Global():
            return b"c" + value.replace(" ", "\n").encode() + b"\n"
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case int():
            return pickle.dumps(value, 2)[2:-1]
        case Call():
            return _code(value[0]) + _code(value[1]) + b"R"
        case Stored():
            kind, key, count = value
            return _code(("storage", Global(kind), key, "cpu", count, None)) + b"Q"
        case dict():
            pairs = b"".join(_code(k) + _code(v) for k, v in value.items())
            empty = _code(Call((Global("collections OrderedDict"), ())))
            return empty + b"(" + pairs + b"u}b"  # with attributes, as a state_dict has them
        case list():
            return b"](" + b"".join(map(_code, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(_code, value)) + b"t"
    raise TypeError(value)


def tensor(storage, size, stride=None, offset=0):
    """The description of a tensor; contiguous without a stride."""
    if stride is None:
        stride = tuple(int(np.prod(size[i + 1 :], dtype=int)) for i in range(len(size)))
    rebuild = Global("torch._utils _rebuild_tensor_v2")
    hooks = Call((Global("collections OrderedDict"), ()))
    return Call((rebuild, (storage, offset, size, stride, False, hooks)))


def legacy(state, blocks, *, system=None, counts=None):
    """A file as PyTorch wrote it before 1.6."""
    system = system or {"protocol_version": VERSION, "little_endian": True, "type_sizes": {}}
    head = b"".join(map(pickled, (MAGIC, VERSION, system, state, list(blocks))))
    return head + b"".join(
        struct.pack("<q", (counts or {}).get(key, len(values))) + values.tobytes()
        for key, values in blocks.items()
    )


def archive(state, blocks, compression=zipfile.ZIP_STORED):
    """A file as PyTorch writes it since 1.6."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr("net/data.pkl", pickled(state))
        file.writestr("net/version", "3\n")
        for key, values in blocks.items():
            file.writestr(f"net/data/{key}", values.tobytes())
    return content.getvalue()


BLOCKS = {"0": np.arange(24, dtype="<f4"), "1": np.array([7], "<i8")}
STATE = {
    "conv.weight": tensor(Stored((FLOAT, "0", 24)), (2, 3, 4)),
    "conv.turned": tensor(Stored((FLOAT, "0", 24)), (4, 3, 2), (1, 4, 12)),
    "bn.bias": tensor(Stored((FLOAT, "0", 24)), (5,), offset=19),
    "bn.num_batches_tracked": tensor(Stored((LONG, "1", 1)), ()),
    "steps": tensor(Stored((LONG, "1", 1)), ()),
}
FORMS = {"legacy": legacy, "archive": archive}


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "net.pth"
        path.write_bytes(content)
        return read_torch(str(path))

    return read


@pytest.mark.parametrize("form", FORMS)
def test_tensors_are_read_by_name_whatever_their_strides(read, form):
    values = read(FORMS[form](STATE, BLOCKS))
    assert sorted(values) == ["bn/bias", "conv/turned", "conv/weight", "steps"]
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(values["conv/weight"], whole)
    np.testing.assert_array_equal(values["conv/turned"], whole.T)
    np.testing.assert_array_equal(values["bn/bias"], np.arange(19, 24))
    assert values["steps"].shape == () and values["steps"] == 7
    assert values["steps"].dtype == np.int64


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_the_weights_in_a_trainings_checkpoint_are_found(read, wrapper):
    parallel = {f"module.{name}": value for name, value in STATE.items()}
    values = read(legacy({"epoch": 3, wrapper: parallel, "arch": "net"}, BLOCKS))
    assert "conv/weight" in values


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name",
    [
        "posix system", "builtins eval", "os system", "torch._utils _rebuild",
        "torch ComplexFloatStorage", "torch.nn.modules.container Sequential",
        "collections OrderedDict.fromkeys",
    ],
)  # fmt: skip
def test_every_other_name_is_refused_by_its_name(read, form, name, tmp_path):
    call = Call((Global(name), (f"touch {tmp_path}/executed",)))
    with pytest.raises(CheckpointError, match=f"needs the Python object {name.replace(' ', '.')}"):
        read(FORMS[form](STATE | {"x": call}, BLOCKS))
    assert not (tmp_path / "executed").exists()


def test_a_pickle_that_runs_code_runs_nothing(read, tmp_path):
    class Harmful:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    for protocol in range(6):
        with pytest.raises(CheckpointError):
            read(pickle.dumps(Harmful(), protocol))
    assert not (tmp_path / "executed").exists()


STORAGE = Stored((FLOAT, "0", 24))
WRONG = {
    "beyond its storage": tensor(STORAGE, (2, 3, 5)),
    "an offset beyond it": tensor(STORAGE, (2,), offset=23),
    "a negative offset": tensor(STORAGE, (2,), offset=-1),
    "a negative stride": tensor(STORAGE, (2,), (-1,)),
    "more values than it has": tensor(STORAGE, (1 << 40,), (0,)),
    "sizes that multiply without end": tensor(STORAGE, (1 << 31, 1 << 31, 1 << 31), (0, 0, 0)),
    "other numbers of sizes and strides": tensor(STORAGE, (2, 3), (1,)),
    "a size that is no number": tensor(STORAGE, ("2",), (1,)),
    "a truth value for a size": tensor(STORAGE, (True,), (1,)),
    "a text": "weights",
    "no storage": tensor("0", (2,)),
    "another number of values": tensor(Stored((FLOAT, "0", 25)), (2,)),
    "values that are not there": tensor(Stored((FLOAT, "9", 24)), (2,)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", WRONG)
def test_a_tensor_that_cannot_be_is_refused(read, form, what):
    with pytest.raises(CheckpointError, match=r"net\.pth cannot be loaded: .*safetensors file"):
        read(FORMS[form](STATE | {"x": WRONG[what]}, BLOCKS))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "first bytes"),
        (b"\x89PNG\r\n\x1a\n", "first bytes"),
        (pickled("text") * 5, "first bytes"),
        (legacy([1, 2], {}), "holds list"),
        (legacy({}, {}), "holds dict"),
        (legacy(STATE, BLOCKS, system={"little_endian": False}), "big-endian"),
        (legacy(STATE, BLOCKS, counts={"0": 1 << 60}), "number of its values '0'"),
        (legacy(STATE, BLOCKS | {"2": BLOCKS["1"]}), "belong to no tensor"),
        (archive(STATE, BLOCKS, zipfile.ZIP_DEFLATED), "compressed"),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_named(read, content, reason):
    with pytest.raises(CheckpointError, match=reason):
        read(content)


def test_a_description_nested_without_end_is_refused(read):
    deep = b"\x80\x02" + b"K\x01" + b"\x85" * 20_000  # a tuple in a tuple in ...
    empty = _code(Call((Global("collections OrderedDict"), ())))
    for state in (deep + b".", b"\x80\x02" + empty + deep[2:] + b"K\x01s."):
        content = b"".join(map(pickled, (MAGIC, VERSION, {"little_endian": True}))) + state
        with pytest.raises(CheckpointError):
            read(content)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_anywhere_is_refused(read, form):
    whole = FORMS[form](STATE, BLOCKS)
    for length in range(0, len(whole), 7):
        with pytest.raises(CheckpointError):
            read(whole[:length])


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(read, form):
    whole, choice = FORMS[form](STATE, BLOCKS), random.Random(0)
    for _ in range(1000):
        damaged = bytearray(whole)
        for _ in range(choice.randint(1, 4)):
            at = choice.randrange(len(damaged))
            damaged[at : at + choice.randint(0, 3)] = choice.randbytes(choice.randint(0, 3))
        try:
            values = read(bytes(damaged))
        except CheckpointError:
            continue
        assert all(value.dtype in (np.float32, np.int64) for value in values.values())


def test_safetensors_are_read(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    numpy.save_file({"fc.weight": weight}, tmp_path / "net.safetensors")
    values = read_torch(str(tmp_path / "net.safetensors"))
    assert list(values) == ["fc/weight"]
    np.testing.assert_array_equal(values["fc/weight"], weight)
    content = (tmp_path / "net.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-4])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors cannot be loaded"):
        read_torch(str(tmp_path / "cut.safetensors"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "dtype"), [("Half", "<f2"), ("Double", "<f8"), ("BFloat16", "")])
def test_other_precisions_become_float32(read, form, kind, dtype):
    numbers = np.array([1.5, -2.0, 0.0078125], np.float32)
    stored = numbers.astype(dtype) if dtype else (numbers.view("<u4") >> 16).astype("<u2")
    state = {"w": tensor(Stored((f"torch {kind}Storage", "0", 3)), (3,))}
    values = read(FORMS[form](state, {"0": stored}))
    assert values["w"].dtype == np.float32
    np.testing.assert_array_equal(values["w"], numbers)


def test_safetensors_in_bfloat16_become_float32(tmp_path):
    pytest.importorskip("safetensors")
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + struct.pack("<HH", 0x3FC0, 0xC000)
    (tmp_path / "net.safetensors").write_bytes(content)
    np.testing.assert_array_equal(read_torch(str(tmp_path / "net.safetensors"))["w"], [1.5, -2.0])


@pytest.mark.parametrize("form", FORMS)
def test_objects_beside_the_weights_are_ignored_and_averages_preferred(read, form, tmp_path):
    arguments = Call((Global("argparse Namespace"), (f"touch {tmp_path}/executed",)))
    averages = {"conv.bias": tensor(Stored((FLOAT, "0", 24)), (2,), offset=3)}
    whole = {
        "epoch": 3, "args": arguments, "optimizer": {"state": {0: STATE["conv.weight"]}},
        "state_dict": STATE, "state_dict_ema": averages,
    }  # fmt: skip
    values = read(FORMS[form](whole, BLOCKS))
    np.testing.assert_array_equal(values["conv/bias"], [3, 4])
    assert len(values) == 1 and not (tmp_path / "executed").exists()


@pytest.mark.parametrize("wrapper", ["", "model", "ema"])
def test_a_whole_model_is_refused(read, wrapper):
    model = Call((Global("ultralytics.nn.tasks DetectionModel"), ()))
    state = {wrapper: model, "epoch": 1} if wrapper else model
    with pytest.raises(CheckpointError, match=r"DetectionModel, which is not loaded.*state_dict"):
        read(archive(state, BLOCKS))


def test_files_of_lightning_and_hugging_face_are_recognised(tmp_path):
    path = tmp_path / "epoch=3.ckpt"
    path.write_bytes(archive({"state_dict": STATE, "pytorch-lightning_version": "2.5"}, BLOCKS))
    assert file_in(str(path)) == str(path)
    (tmp_path / "model.ckpt").write_bytes(b"\x00" * 9)
    assert file_in(str(tmp_path / "model.ckpt")) == ""
    assert file_in(str(tmp_path)) == ""
    (tmp_path / "pytorch_model.bin").write_bytes(archive(STATE, BLOCKS))
    assert file_in(str(tmp_path)) == str(tmp_path / "pytorch_model.bin")
    assert "conv/weight" in read_torch(file_in(str(tmp_path)))
