"""Reads the tensors of PyTorch's files, as data: nothing in the file is ever called or imported.

    values = read_torch("efficientnet-lite0-57934424.pth")
    values["_conv_stem/weight"].shape   # (32, 3, 3, 3)

A ``.pth`` file describes its tensors with a pickle, a small program. Here a machine of our own
carries out only those of its operations that build texts, numbers, tuples, lists and dictionaries,
and knows few names: an ordered dictionary, a tensor, a parameter, and storages of numbers. Any
other Python object becomes a placeholder with its name: beside the weights, e.g. the arguments in a
training's checkpoint, it is ignored; among or instead of the weights, it is refused. Both forms are
read: the older one, a sequence of pickles with the values behind them, and the zip archive of
PyTorch 1.6 and later.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import CheckpointError
from tf_image_classification.system import files

Values = dict[str, npt.NDArray[Any]]

_SUFFIXES = (".pth", ".pt", ".pth.tar", ".bin", ".safetensors")
_IN_FOLDER = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face repository
_ARCHIVE = b"PK\x03\x04"
_PICKLE = b"\x80"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Keys of the weights in a training's checkpoint; moving averages come first, as in timm.
_WRAPPERS = (
    *("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model_state", "model"),
    *("net", "network", "weights"),
)
# What torch.compile and torch.nn.DataParallel put in front of each name.
_PREFIXES = ("_orig_mod/", "module/", "_orig_mod/")
_COUNTER = "num_batches_tracked"  # of a batch normalisation; no weight
_ADVICE = "Expected the tensors of torch.save(model.state_dict(), path), or a .safetensors file."
_MARK = object()


class _RefusedError(ValueError):
    """The file holds something else than tensors by name, or is damaged."""


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that a file may mention, and that is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


_DICT = _Global("collections", "OrderedDict")
_TENSOR = _Global("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Global("torch._utils", "_rebuild_parameter")
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_DTYPES: dict[_Global, np.dtype[Any]] = {
    _Global("torch", f"{kind}Storage"): np.dtype(dtype)
    for kind, dtype in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "BFloat16": _BFLOAT16,
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}
_KNOWN = {_DICT, _TENSOR, _PARAMETER, *_DTYPES}
# By the names of the types in a .safetensors file.
_SAFE_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "F64": "<f8",
        "F32": "<f4",
        "F16": "<f2",
        "BF16": _BFLOAT16,
        "I64": "<i8",
        "I32": "<i4",
        "I16": "<i2",
        "I8": "i1",
        "U8": "u1",
        "BOOL": "?",
    }.items()
}


@dataclasses.dataclass(frozen=True)
class _Placeholder:
    """A Python object that a file describes, and that is not built."""

    name: _Global

    def __str__(self) -> str:
        return f"it needs the Python object {self.name}, which is not loaded"


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Where a tensor's values are: the key of a block of values, their type and number."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch(path: str) -> Values:
    """The tensors in a local ``.pth``, ``.pt`` or ``.safetensors`` file, by name.

    Names have ``/`` for each dot. The counters of batch normalisations are left out; ``module.`` in
    front of every name, and the dictionary around the tensors of a training's checkpoint, are
    removed. Numbers of half and double precision become float32.

    Raises:
        CheckpointError: the file is damaged, or holds no tensors by name.
    """
    if path.endswith(".safetensors"):
        return _with_our_names(_read_safetensors(path))
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                tensors, blocks = _read_archive(file)
            else:
                file.seek(0)
                tensors, blocks = _read_legacy(file)
            values = {name: _array(tensor, blocks) for name, tensor in tensors.items()}
    except Exception as error:  # damage makes zipfile, pickletools and NumPy raise all kinds
        reason = str(error).partition("\n")[0][:300]
        raise CheckpointError(
            f"The PyTorch file {path} cannot be loaded: {reason}. {_ADVICE}"
        ) from error
    return _with_our_names(values)


def file_in(path: str) -> str:
    """The PyTorch file that a path of weights names, itself or in a folder; "" for another kind."""
    if path.endswith(_SUFFIXES):
        return path
    if path.endswith(".ckpt") and files.exists(path) and not files.is_folder(path):
        with files.open_for_reading(path) as stream:
            return path if stream.read(len(_ARCHIVE)) == _ARCHIVE else ""  # of Lightning
    names = files.list_folder(path, missing_ok=True) if files.is_folder(path) else []
    return next((files.join(path, name) for name in _IN_FOLDER if name in names), "")


def _read_safetensors(path: str) -> Values:
    try:
        import safetensors  # late: of an extra
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"Reading {path} needs safetensors. pip install 'tf_image_classification[weights]'"
        ) from error
    try:
        with open(path, "rb") as file:
            tensors = safetensors.deserialize(file.read())  # type: ignore[no-untyped-call]
        return {
            name: np.frombuffer(tensor["data"], _SAFE_DTYPES[tensor["dtype"]]).reshape(
                tensor["shape"]
            )
            for name, tensor in tensors
        }
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0][:300]
        raise CheckpointError(
            f"The file {path} cannot be loaded: {reason}. Expected tensors of "
            f"{', '.join(_SAFE_DTYPES)} in the safetensors format."
        ) from error


def _with_our_names(values: Values) -> Values:
    """PyTorch's tensors with ``/`` for each dot in their names, in float32, without counters."""
    named = {
        name.replace(".", "/"): value.astype(np.float32) if _is_floating(value) else value
        for name, value in values.items()
        if not name.endswith(_COUNTER)
    }
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def _is_floating(value: npt.NDArray[Any]) -> bool:
    return value.dtype.kind == "f" or value.dtype == _BFLOAT16


def _read_legacy(file: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, npt.NDArray[Any]]]:
    if file.read(1) != _PICKLE:
        raise _RefusedError("its first bytes are not those of torch.save")
    file.seek(0)
    magic, _, system = (_unpickled(file)[0] for _ in range(3))
    if magic != _LEGACY_MAGIC or not isinstance(system, dict):
        raise _RefusedError("its first bytes are not those of torch.save")
    if not system.get("little_endian", True):
        raise _RefusedError("its numbers are big-endian")
    found, storages = _unpickled(file)
    tensors, [keys, _] = _tensors(found), _unpickled(file)
    wanted = {tensor.storage.key for tensor in tensors.values()}
    size = os.fstat(file.fileno()).st_size
    blocks = {}
    for key in keys:
        if key not in storages:
            raise _RefusedError(f"the values {key!r} belong to no tensor")
        dtype, count = storages[key].dtype, int.from_bytes(file.read(8), "little", signed=True)
        if count != storages[key].count or count * dtype.itemsize > size - file.tell():
            raise _RefusedError(f"it is cut off, or the number of its values {key!r} is wrong")
        content = file.read(count * dtype.itemsize)
        if key in wanted:
            blocks[key] = np.frombuffer(content, dtype)
    return tensors, blocks


def _read_archive(file: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, npt.NDArray[Any]]]:
    with zipfile.ZipFile(file) as archive:
        [described] = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        root = described.removesuffix("data.pkl")
        if any(m.compress_type != zipfile.ZIP_STORED for m in archive.infolist()):
            raise _RefusedError("its archive is compressed, as torch.save never writes it")
        with archive.open(described) as stream:
            tensors = _tensors(_unpickled(stream)[0])
        blocks = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            member = archive.getinfo(f"{root}data/{storage.key}")
            if member.file_size != storage.count * storage.dtype.itemsize:
                raise _RefusedError(f"the number of its values {storage.key!r} is wrong")
            blocks[storage.key] = np.frombuffer(archive.read(member), storage.dtype)
    return tensors, blocks


def _tensors(found: Any) -> dict[str, _Tensor]:
    """The tensors by name in a state_dict, or in a checkpoint around one."""
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), (dict, _Placeholder)):
            found = found[wrapper]
    if isinstance(found, _Placeholder):
        raise _RefusedError(f"it holds a whole model instead of its weights; {found}")
    if not isinstance(found, dict) or not found:
        raise _RefusedError(f"it holds {type(found).__name__}, not tensors by name")
    for name, tensor in found.items():
        if isinstance(tensor, _Placeholder):
            raise _RefusedError(f"at {name} {tensor}")
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise _RefusedError(f"{name} in it is {type(tensor).__name__}, not a tensor")
    return found


def _array(tensor: _Tensor, blocks: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """A tensor's values, contiguous; its storage may hold them in another order."""
    block, size, stride = blocks[tensor.storage.key], tensor.size, tensor.stride
    numbers = (tensor.offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise _RefusedError(f"a tensor has size {size} and stride {stride}")
    if math.prod(size) == 0:
        return np.zeros(size, tensor.storage.dtype)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(block) or math.prod(size) > len(block):
        raise _RefusedError(f"a tensor of size {size} is larger than its storage of {len(block)}")
    in_bytes = [step * block.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(block[tensor.offset :], size, in_bytes)
    values: npt.NDArray[Any] = view.copy()
    return values


def _unpickled(file: IO[bytes]) -> tuple[Any, dict[str, _Storage]]:
    """The value that the next pickle of a file builds, and all storages by key.

    Raises:
        ValueError: it is damaged, or has an operation that is not known here.
    """
    machine = _Machine()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "STOP":
            break
        act = _OPERATIONS.get(operation.name)
        if act is None:
            raise _RefusedError(f"its description has the operation {operation.name}")
        act(machine, argument)
    [value] = machine.stack
    return value, machine.storages


class _Machine:
    """A stack and a memory, as the operations of a pickle use them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def remember(self, number: int) -> None:
        self.memory[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        self.push(self.memory[number])

    def pop(self, count: int) -> list[Any]:
        """The values on top; a mark among them is an error."""
        values = self.stack[len(self.stack) - count :]
        if len(self.stack) < count or any(value is _MARK for value in values):
            raise _RefusedError("its description is damaged")
        del self.stack[len(self.stack) - count :]
        return values

    def drop(self) -> None:
        self.pop(1)

    def pop_to_mark(self) -> list[Any]:
        above = next((i for i, v in enumerate(reversed(self.stack)) if v is _MARK), None)
        if above is None:
            raise _RefusedError("its description is damaged")
        values = self.pop(above)
        self.stack.pop()
        return values

    def make_global(self, text: str) -> None:
        module, _, name = text.partition(" ")
        found = _Global(module, name)
        self.push(found if found in _KNOWN else _Placeholder(found))

    def make_stacked_global(self) -> None:
        module, name = self.pop(2)
        self.make_global(f"{module} {name}")

    def reduce(self) -> None:
        """A call of a known name: a dictionary, a tensor of a storage, or a parameter."""
        function, arguments = self.pop(2)
        if isinstance(function, _Placeholder):
            self.push(function)
        elif function == _DICT and len(arguments) <= 1:
            self.push({})
            for pair in arguments[0] if arguments else ():
                self.set_items(pair)
        elif function == _TENSOR and len(arguments) >= 4 and isinstance(arguments[0], _Storage):
            self.push(_Tensor(*arguments[:4]))
        elif function == _PARAMETER and arguments and isinstance(arguments[0], _Tensor):
            self.push(arguments[0])
        else:
            raise _RefusedError("its description calls a function with arguments unknown here")

    def make_object(self, num_arguments: int) -> None:
        """A placeholder for an object of a class."""
        kind, *_ = self.pop(1 + num_arguments)
        if not isinstance(kind, _Placeholder):
            raise _RefusedError("its description makes an object of a class unknown here")
        self.push(kind)

    def make_storage(self) -> None:
        [identity] = self.pop(1)
        kind, dtype, key, _, count, *view = identity
        if not isinstance(dtype, _Global) or dtype not in _DTYPES or not isinstance(key, str):
            raise _RefusedError(f"it has values of an unsupported type: {dtype}")
        if kind != "storage" or any(view):
            raise _RefusedError("it has values that are no plain storage")
        self.storages[key] = _Storage(key, _DTYPES[dtype], count)
        self.push(self.storages[key])

    def set_items(self, values: Sequence[Any]) -> None:
        if not all(type(key) in (str, int) for key in values[::2]):  # others may nest without end
            raise _RefusedError("a dictionary of it has keys that are no names")
        if not isinstance(self.stack[-1], _Placeholder):
            self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def extend(self, values: Sequence[Any]) -> None:
        if not isinstance(self.stack[-1], _Placeholder):
            self.stack[-1].extend(values)


_Act = Callable[[_Machine, Any], None]

_OPERATIONS: dict[str, _Act] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": lambda m, _: m.push(_MARK),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.push(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop(3))),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_to_mark())),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "EMPTY_SET": lambda m, _: m.push([]),
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, _: m.extend(m.pop_to_mark())),
    "GLOBAL": lambda m, text: m.make_global(text),
    "STACK_GLOBAL": lambda m, _: m.make_stacked_global(),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.make_object(1),
    "NEWOBJ_EX": lambda m, _: m.make_object(2),
    "BINPERSID": lambda m, _: m.make_storage(),
    "BUILD": lambda m, _: m.drop(),  # attributes of an object, e.g. versions of a dictionary
    "MEMOIZE": lambda m, _: m.remember(len(m.memory)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(
        (
            *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
            *("SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
        ),
        _Machine.push,
    ),
}
