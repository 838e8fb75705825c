"""Reads the tensors of PyTorch's files, as data: nothing in the file is ever called or imported.

    values = read_torch("efficientnet-lite0-57934424.pth")
    values["_conv_stem/weight"].shape   # (32, 3, 3, 3)

A ``.pth`` file describes its tensors with a pickle, a small program. Here a machine of our own
carries out only those of its operations that build texts, numbers, tuples, lists and dictionaries,
and knows four names: an ordered dictionary, a tensor, and storages of float32 and int64. Everything
else is refused. Both forms are read: the older one, a sequence of pickles with the values behind
them, and the zip archive of PyTorch 1.6 and later.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import CheckpointError

Values = dict[str, npt.NDArray[Any]]

_PICKLE = b"\x80"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")
_PARALLEL = "module/"  # torch.nn.DataParallel puts it in front of each name
_COUNTER = "num_batches_tracked"  # of a batch normalisation; no weight
_ADVICE = (
    "Expected the tensors of torch.save(model.state_dict(), path), in float32; or give a "
    ".safetensors file."
)
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
_DTYPES: dict[_Global, np.dtype[Any]] = {
    _Global("torch", "FloatStorage"): np.dtype("<f4"),
    _Global("torch", "LongStorage"): np.dtype("<i8"),
}
_KNOWN = {_DICT, _TENSOR, *_DTYPES}


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
    removed.

    Raises:
        CheckpointError: the file is damaged, or holds anything but tensors of float32 and int64.
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


def _read_safetensors(path: str) -> Values:
    try:
        import safetensors.numpy  # late: of an extra
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"Reading {path} needs safetensors. pip install 'tf_image_classification[weights]'"
        ) from error
    try:
        values: Values = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0][:300]
        raise CheckpointError(
            f"The file {path} cannot be loaded: {reason}. Expected tensors of float16, float32 or "
            "float64 in the safetensors format."
        ) from error
    return values


def _with_our_names(values: Values) -> Values:
    """PyTorch's tensors with ``/`` for each dot in their names, without counters."""
    named = {name.replace(".", "/"): value for name, value in values.items()}
    if named and all(name.startswith(_PARALLEL) for name in named):
        named = {name.removeprefix(_PARALLEL): value for name, value in named.items()}
    return {name: value for name, value in named.items() if not name.endswith(_COUNTER)}


def _read_legacy(file: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, npt.NDArray[Any]]]:
    if file.read(1) != _PICKLE:
        raise _RefusedError("its first bytes are not those of torch.save")
    file.seek(0)
    magic, _, system = (_unpickled(file) for _ in range(3))
    if magic != _LEGACY_MAGIC or not isinstance(system, dict):
        raise _RefusedError("its first bytes are not those of torch.save")
    if not system.get("little_endian", True):
        raise _RefusedError("its numbers are big-endian")
    tensors = _tensors(_unpickled(file))
    keys = _unpickled(file)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    size = os.fstat(file.fileno()).st_size
    blocks = {}
    for key in keys:
        if key not in storages:
            raise _RefusedError(f"the values {key!r} belong to no tensor")
        dtype, count = storages[key].dtype, int.from_bytes(file.read(8), "little", signed=True)
        if count != storages[key].count or count * dtype.itemsize > size - file.tell():
            raise _RefusedError(f"it is cut off, or the number of its values {key!r} is wrong")
        blocks[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return tensors, blocks


def _read_archive(file: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, npt.NDArray[Any]]]:
    with zipfile.ZipFile(file) as archive:
        [described] = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        root = described.removesuffix("data.pkl")
        if any(m.compress_type != zipfile.ZIP_STORED for m in archive.infolist()):
            raise _RefusedError("its archive is compressed, as torch.save never writes it")
        with archive.open(described) as stream:
            tensors = _tensors(_unpickled(stream))
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
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not found:
        raise _RefusedError(f"it holds {type(found).__name__}, not tensors by name")
    for name, tensor in found.items():
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


def _unpickled(file: IO[bytes]) -> Any:
    """The value that the next pickle of a file builds, as far as it is harmless.

    Raises:
        ValueError: it is damaged, or does anything else.
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
    return value


class _Machine:
    """A stack and a memory, as the operations of a pickle use them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

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
        if found not in _KNOWN:
            raise _RefusedError(f"it needs the Python object {found}, which is not loaded")
        self.push(found)

    def reduce(self) -> None:
        """Call one of two known names: an empty dictionary, or a tensor of a storage."""
        function, arguments = self.pop(2)
        if function == _DICT and arguments == ():
            self.push({})
        elif function == _TENSOR and len(arguments) >= 4 and isinstance(arguments[0], _Storage):
            self.push(_Tensor(*arguments[:4]))
        else:
            raise _RefusedError("its description calls a function with arguments unknown here")

    def make_storage(self) -> None:
        [identity] = self.pop(1)
        kind, dtype, key, _, count, *view = identity
        if not isinstance(dtype, _Global) or dtype not in _DTYPES or not isinstance(key, str):
            raise _RefusedError("it has values that are neither float32 nor int64")
        if kind != "storage" or any(view):
            raise _RefusedError("it has values that are no plain storage")
        self.push(_Storage(key, _DTYPES[dtype], count))

    def set_items(self, values: Sequence[Any]) -> None:
        if not all(type(key) in (str, int) for key in values[::2]):  # others may nest without end
            raise _RefusedError("a dictionary of it has keys that are no names")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def extend(self, values: Sequence[Any]) -> None:
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
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    "APPENDS": lambda m, _: m.extend(m.pop_to_mark()),
    "GLOBAL": lambda m, text: m.make_global(text),
    "REDUCE": lambda m, _: m.reduce(),
    "BINPERSID": lambda m, _: m.make_storage(),
    "BUILD": lambda m, _: m.drop(),  # attributes of the dictionary, e.g. versions
    "MEMOIZE": lambda m, _: m.remember(len(m.memory)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
        _Machine.push,
    ),
}
