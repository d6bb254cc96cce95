"""Reads a PyTorch .pt file without executing anything it asks for.

A pickle is a little program that may call any function by name. Here the only names that mean something are
those that lay a tensor over its bytes and those of plain containers. Every other class becomes an inert,
named stub (published checkpoints hold fairseq and sentencepiece objects that nobody needs), and a name out of
Python's standard library that is no plain data type (os.system, builtins.eval, ...) is refused outright.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from syncdiff_data.records import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickled number of the format torch.save wrote before version 1.6."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

INERT_STDLIB = {
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.object",
    "builtins.range",
    "builtins.slice",
    "collections.Counter",
    "collections.defaultdict",
    "collections.deque",
    "copyreg._reconstructor",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
}
"""Standard-library names that honest checkpoints hold. They are stubbed like any other class, not refused."""


class Refused(Exception):
    """The pickle asks for something no checkpoint needs."""


class Stub:
    """Stands for an object of a class that was not imported. Takes whatever the pickle gives it, does
    nothing.
    """

    def __init__(self, *args: object, **kwargs: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass


class StubbingUnpickler(pickle.Unpickler):
    """Builds tensors and plain containers; notes in `stubs` the names of everything else."""

    def __init__(self, file: BinaryIO, storage: Callable[[torch.dtype, str, int], Tensor]):
        """storage(dtype, key, number of values) gives the flat tensor that a persistent id of the file
        names.
        """
        super().__init__(file)
        self.storage = storage
        self.stubs: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        module = IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}"
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        plain = {
            "collections.OrderedDict": OrderedDict,
            "builtins.set": set,
            "builtins.frozenset": frozenset,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor_v2": self._rebuild_tensor,
            "torch._utils._rebuild_tensor": self._rebuild_tensor,
            "torch._utils._rebuild_parameter": self._rebuild_parameter,
        }
        if full in plain:
            return plain[full]
        if module.partition(".")[0] in sys.stdlib_module_names and full not in INERT_STDLIB:
            raise Refused(full)
        self.stubs.add(full)
        return type(name.rpartition(".")[2], (Stub,), {"__module__": module})

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _device, size, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise Refused(f"persistent object {kind!r}")
        flat = self.storage(dtype, str(key), int(size))
        if view and view[0] is not None:
            _view_key, offset, length = view[0]
            flat = flat[offset : offset + length]
        return flat

    def _rebuild_tensor(self, flat: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
        return flat.as_strided(size, stride, offset)  # Refuses what lies outside the storage.

    def _rebuild_parameter(self, data: Tensor, *_: object) -> Tensor:
        return data


def read_pt(path: Path) -> tuple[Any, list[str]]:
    """What torch.save put into the file, tensors on the CPU, and the sorted names of the classes that were
    stubbed.

    Reads the zip format and the one before torch 1.6. Raises UserError where the file is missing, is
    something else, is cut short or damaged, or asks for code to be run.
    """
    if not path.is_file():
        raise UserError(f"No checkpoint at {path}: expected a PyTorch .pt file.")
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(file)
            file.seek(0)
            return _read_legacy(file, path.stat().st_size)
    except Refused as refused:
        raise UserError(
            f"Refused to load {path}: its pickle asks for {refused}, which no AV-HuBERT checkpoint needs; "
            "nothing was run. Get the file again from its publisher."
        ) from refused
    except MemoryError as error:
        raise UserError(
            f"{path} asks for more memory than there is: it is damaged, or this machine has too little for it."
        ) from error
    except Exception as error:
        # Whatever a broken pickle trips over (there are a dozen exception types) means the same to the user.
        raise UserError(
            f"{path} is not a readable PyTorch checkpoint: expected a .pt file written by torch.save, found "
            f"{_what_it_is(path)} ({type(error).__name__}: {error}). Download it again."
        ) from error


def _read_zip(file: BinaryIO) -> tuple[Any, list[str]]:
    with zipfile.ZipFile(file) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        loaded: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, size: int) -> Tensor:
            if key not in loaded:
                data = archive.read(f"{folder}data/{key}")
                loaded[key] = (
                    torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
                )
            return loaded[key]

        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("big-endian tensors")
        unpickler = StubbingUnpickler(io.BytesIO(archive.read(pickled)), storage)
        return unpickler.load(), sorted(unpickler.stubs)


def _read_legacy(file: BinaryIO, file_size: int) -> tuple[Any, list[str]]:
    """Three header pickles, the object, the list of storage keys, then per storage its length and its
    bytes.
    """
    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, size: int) -> Tensor:
        if key not in storages:
            if size * dtype.itemsize > file_size:
                raise EOFError(f"a tensor of {size} values does not fit into the file")
            storages[key] = torch.empty(size, dtype=dtype)
        return storages[key]

    def unpickle() -> Any:
        return StubbingUnpickler(file, storage).load()

    if unpickle() != LEGACY_MAGIC:
        raise ValueError("no PyTorch header")
    _protocol, _platform = unpickle(), unpickle()
    unpickler = StubbingUnpickler(file, storage)
    content = unpickler.load()
    for key in unpickle():
        flat = storages[str(key)]
        (size,) = struct.unpack("<q", file.read(8))
        data = file.read(flat.nbytes)
        if size != flat.numel() or len(data) != flat.nbytes:
            raise EOFError(f"storage {key} is cut short")
        if data:
            flat.copy_(torch.frombuffer(bytearray(data), dtype=flat.dtype))
    return content, sorted(unpickler.stubs)


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    size = f"{path.stat().st_size:,} bytes"
    if not start:
        return "an empty file"
    if start.startswith(b"PK"):
        return f"a zip archive of {size} that is incomplete or holds something else"
    if start.lstrip().startswith(b"<"):
        return f"a web page of {size}"
    if start.startswith(b"\x80"):
        return f"a pickle of {size} that is incomplete or holds something else"
    return f"{size} starting with {start!r}"
