"""Scalars and arrays of numpy. It is imported only for a value or an envelope of its own."""

from __future__ import annotations

import sys

from .errors import Unreadable
from .standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .reading import Reader
    from .writing import Writer

__all__ = ["package", "read_array", "read_scalar", "write_array", "write_scalar"]

_SIMPLE = r"[<>|=][?biufcmMSUV]\d{1,9}(\[\d{0,9}[A-Za-zμ]{1,7}\])?"
_MOST_DIMENSIONS = 64


def package(name: str) -> Any:
    """The package of a value's type, imported."""
    try:
        __import__(name)
    except ImportError as exc:
        raise Unreadable(
            "a value is of the package %s, which this Python (%s) cannot import: %s; install it there"
            % (name, sys.executable, exc)
        ) from exc
    return sys.modules[name]


def write_scalar(writer: Writer, value: Any) -> Any:
    """Write a scalar as the equal number or text of Python, or as bytes if there is none."""
    dtype = value.dtype
    descr = _descr(writer, dtype)
    if dtype.kind == "V" and type(value).__name__ != "void":
        raise writer.refused("is a numpy.record, a subclass of numpy's void; send its item()")
    if dtype.kind in "biuU" or (dtype.kind == "f" and dtype.itemsize <= 8):
        plain = str.__str__(value) if dtype.kind == "U" else value.item()
        return writer.tag("numpy.scalar", writer.write(plain), dtype=descr)
    data = bytes(value) if dtype.kind == "S" else value.tobytes()
    return writer.tag("numpy.scalar", {"buffer": writer.buffer(data)}, dtype=descr)


def read_scalar(reader: Reader, tree: Any) -> Any:
    """Read a scalar. Without numpy, a float64 and a text become the equal objects of Python."""
    found = tree["v"]
    if ("numpy" not in sys.modules and tree["dtype"] in ("<f8", ">f8")) or str(tree["dtype"])[1:2] == "U":
        try:
            package("numpy")
        except Unreadable:
            return reader.read(found)
    numpy = package("numpy")
    if str(tree["dtype"])[1:2] == "U":
        return numpy.str_(reader.read(found))
    dtype = _dtype(reader, numpy, tree["dtype"])
    if isinstance(found, dict) and "buffer" in found:
        data = reader.buffer(found["buffer"], dtype.itemsize)
        if dtype.kind == "S":
            return numpy.bytes_(data)  # an array would take zeros at its end for padding
        return numpy.frombuffer(data, dtype=dtype)[0] if dtype.itemsize else numpy.zeros(1, dtype)[0]
    plain = reader.read(found)
    if not isinstance(plain, (bool, int, float)):
        raise reader.damaged("a number", plain)
    return dtype.type(plain)


def write_array(writer: Writer, value: Any) -> Any:
    """Write an array with its order. Objects in it are written one by one."""
    numpy = package("numpy")
    if type(value) is not numpy.ndarray:
        raise writer.refused(
            "is of %s.%s, a subclass of numpy's array; convert it with numpy.asarray()"
            % (type(value).__module__, type(value).__qualname__)
        )
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    fields = {"shape": list(value.shape), "order": order}
    if value.dtype == object:
        writer.enter(value)
        trees = [writer.at("[%s]" % ", ".join(map(str, at)), value[at]) for at in numpy.ndindex(value.shape)]
        writer.leave()
        return writer.tag("numpy.array", None, dtype="|O", items=trees, **fields)
    descr = _descr(writer, value.dtype)
    data = value.tobytes(order) if order == "F" else numpy.ascontiguousarray(value)
    if value.dtype.kind in "mM" or value.dtype.names or not isinstance(data, bytes):
        data = value.tobytes(order)
    return writer.tag("numpy.array", writer.buffer(data), dtype=descr, **fields)


def read_array(reader: Reader, tree: Any) -> Any:
    """An array that can be written to."""
    shape = tuple(map(reader.whole, tree["shape"]))
    order = tree["order"]
    if len(shape) > _MOST_DIMENSIONS or any(n < 0 for n in shape) or order not in ("C", "F"):
        raise reader.damaged("a shape", shape)
    count = 1
    for length in shape:
        count *= length
    if tree["dtype"] == "|O":
        if not isinstance(tree["items"], list) or len(tree["items"]) != count:
            raise Unreadable(
                "%s is damaged: an array of shape %r has not as many items" % (reader.where, shape)
            )
        numpy = package("numpy")
        flat = numpy.empty(count, dtype=object)
        for index, item in enumerate(reader.items(tree["items"])):
            flat[index] = item
        made = flat.reshape(shape)
        return numpy.asfortranarray(made) if order == "F" else made
    numpy = package("numpy")
    dtype = _dtype(reader, numpy, tree["dtype"])
    if not dtype.itemsize and count > 1000000:
        raise Unreadable("%s is damaged: %d items of no size" % (reader.where, count))
    data = reader.buffer(tree["v"], dtype.itemsize * count)
    if not data:
        return numpy.zeros(shape, dtype, order=order)
    return numpy.ndarray(shape, dtype, buffer=bytearray(data), order=order)


def _descr(writer: Writer, dtype: Any) -> Any:
    if dtype.hasobject:
        raise writer.refused("has the dtype %s with objects in it; send its columns one by one" % (dtype,))
    if dtype.kind not in "?biufcmMSUV":
        raise writer.refused("has the dtype %s, which cannot be carried; convert it with astype()" % (dtype,))
    if dtype.names is None and dtype.subdtype is None:
        return dtype.str
    if not _is_packed(dtype):
        raise writer.refused(
            "has the dtype %s with gaps between its fields, or fields out of order; copy it into one without"
            % (dtype,)
        )
    fields = sys.modules["numpy"].lib.format.dtype_to_descr(dtype)
    return standard("json").loads(standard("json").dumps(fields))


def _is_packed(dtype: Any) -> bool:
    """Whether fields, at any depth, follow each other without gaps."""
    dtype = dtype.base
    if dtype.names is None:
        return True
    at = 0
    for name in dtype.names:
        inner, offset = dtype.fields[name][:2]
        if offset != at or not _is_packed(inner):
            return False
        at += inner.itemsize
    return bool(at == dtype.itemsize and at)


def _dtype(reader: Reader, numpy: Any, descr: Any) -> Any:
    """The dtype of a description in this format. numpy alone would accept more than this format has."""
    return numpy.dtype(_checked(reader, descr))


def _checked(reader: Reader, descr: Any, depth: int = 0) -> Any:
    if isinstance(descr, str) and standard("re").fullmatch(_SIMPLE, descr):
        return descr
    if not isinstance(descr, list) or depth > 20 or not descr:
        raise reader.damaged("a dtype", descr)
    fields = []
    for field in descr:
        name, kind, shape = field if len(field) == 3 else (*field, [])
        titled = tuple(map(str, name)) if isinstance(name, list) else str(name)
        inner = (titled, _checked(reader, kind, depth + 1))
        sizes = tuple(map(reader.whole, shape))
        fields.append((*inner, sizes) if sizes else inner)
    return fields
