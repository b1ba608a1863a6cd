"""Frames of pandas and polars. These packages are imported only for a value or an envelope of their own.

A frame of pandas travels column by column, each as its arrays. So neither end needs Arrow, and nothing is converted. A
column (``COLUMN``) is one of these objects:

| field | the column's dtype |
|---|---|
| ``array`` | one of numpy's |
| ``objects`` | object: array of trees |
| ``codes``, ``categories`` (an index), ``ordered`` | category |
| ``utc``, ``tz`` | datetime with a zone |
| ``values``, ``mask``, ``dtype`` | nullable numbers and booleans |
| ``text``, ``lengths``, ``missing``, ``na``, ``storage`` | string: UTF-8 of all texts, one after the other |
| ``ordinals``, ``freq`` | period |
| ``left``, ``right``, ``closed`` | interval |
| ``arrow`` | one of Arrow's own: IPC stream |

An index is ``{"range": [start, stop, step]}``, ``{"levels": [...], "codes": [...]}`` or ``{"column": COLUMN}``, each with
``names`` and, for times, ``freq``. ``unique_labels`` is true where pandas is to refuse a label that occurs twice. A frame of polars is Arrow IPC, which polars writes itself.
"""

from __future__ import annotations

from .classes import shown
from .errors import Unreadable
from .numbers import package, read_array, write_array
from .standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    from .reading import Reader
    from .writing import Writer

__all__ = [
    "read_frame",
    "read_index",
    "read_polars",
    "read_scalar",
    "read_series",
    "write_frame",
    "write_index",
    "write_polars",
    "write_scalar",
    "write_series",
]

_MASKED = {"b": "BooleanArray", "i": "IntegerArray", "u": "IntegerArray", "f": "FloatingArray"}


# -- what is in a cell -------------------------------------------------------------------------------------------


def write_scalar(writer: Writer, value: Any) -> Any:
    """Write a Timestamp or Timedelta with its unit, NaT or NA."""
    from .moments import write_zone

    kind = type(value).__qualname__
    if kind in ("NaTType", "NAType"):
        return writer.tag("pandas." + kind[:-4], None)
    zone = getattr(value, "tzinfo", None)
    more: Dict[str, Any] = {} if zone is None else {"tz": write_zone(writer, zone, value)}
    if getattr(value, "fold", 0):
        more["fold"] = 1
    return writer.tag("pandas." + kind, int(value.asm8.view("i8")), unit=value.unit, **more)


def read_scalar(reader: Reader, tree: Any) -> Any:
    """The reverse."""
    from .moments import read_zone

    pandas, numpy = package("pandas"), package("numpy")
    kind = tree["$"].partition(".")[2]
    if kind in ("NaT", "NA"):
        return getattr(pandas, kind)
    letter = "M" if kind == "Timestamp" else "m"
    if tree["unit"] not in ("s", "ms", "us", "ns"):
        raise reader.damaged("a unit of time", tree["unit"])
    value = getattr(pandas, kind)(
        numpy.int64(reader.whole(tree["v"])).view("%s8[%s]" % (letter, tree["unit"]))
    )
    return value.tz_localize("UTC").tz_convert(read_zone(tree["tz"])) if "tz" in tree else value


# -- columns -----------------------------------------------------------------------------------------------------


def _column(writer: Writer, values: Any) -> Dict[str, Any]:
    """The column of a Series, or of an Index without levels."""
    pandas, numpy = package("pandas"), package("numpy")
    dtype = values.dtype
    if isinstance(dtype, numpy.dtype):
        if dtype.kind == "O":
            return {"objects": writer.items(values.to_numpy())}
        return {"array": write_array(writer, values.to_numpy())}
    kind = type(dtype).__name__
    held = values.array
    if kind == "CategoricalDtype":
        codes = numpy.asarray(held.codes)
        return {
            "codes": write_array(writer, codes),
            "categories": _index(writer, dtype.categories),
            "ordered": bool(dtype.ordered),
        }
    if kind == "DatetimeTZDtype":
        from .moments import write_zone

        utc = pandas.DatetimeIndex(held).tz_convert("UTC").tz_localize(None).to_numpy()
        return {"utc": write_array(writer, utc), "tz": write_zone(writer, dtype.tz)}
    if kind == "StringDtype":
        return _texts(writer, held, dtype)
    if kind == "PeriodDtype":
        return {
            "ordinals": write_array(writer, numpy.asarray(held.asi8)),
            "freq": str(dtype)[len("period[") : -1],
        }
    if kind == "IntervalDtype":
        return {
            "left": _column(writer, held.left),
            "right": _column(writer, held.right),
            "closed": dtype.closed,
        }
    if kind == "ArrowDtype":
        return {"arrow": writer.buffer(_arrow_bytes(held))}
    if hasattr(held, "_mask") and getattr(dtype, "numpy_dtype", None) is not None:
        plain = held.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        mask = numpy.asarray(held.isna())
        return {"values": write_array(writer, plain), "mask": write_array(writer, mask), "dtype": str(dtype)}
    raise writer.refused("has the dtype %s, which cannot be carried; convert it with astype()" % (dtype,))


def _texts(writer: Writer, held: Any, dtype: Any) -> Dict[str, Any]:
    numpy = package("numpy")
    missing = numpy.asarray(held.isna())
    encoded = [
        b"" if gone else text.encode("utf-8", "surrogatepass") for text, gone in zip(held.tolist(), missing)
    ]
    return {
        "text": writer.buffer(b"".join(encoded)),
        "lengths": write_array(writer, numpy.array([len(text) for text in encoded], dtype="<i8")),
        "missing": write_array(writer, missing),
        "na": "NA" if dtype.na_value is package("pandas").NA else "nan",
        "storage": dtype.storage,
    }


def _arrow_bytes(held: Any) -> bytes:
    arrow = package("pyarrow")
    table = arrow.table({"0": held.__arrow_array__()})
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _values(reader: Reader, tree: Any) -> Any:
    """The array of a column, of numpy or of pandas."""
    pandas, numpy = package("pandas"), package("numpy")
    if "array" in tree:
        return _array(reader, tree["array"])
    if "objects" in tree:
        items = reader.items(tree["objects"])
        made = numpy.empty(len(items), dtype=object)
        for index, item in enumerate(items):
            made[index] = item
        return made
    if "codes" in tree:
        categories = pandas.CategoricalDtype(_index_of(reader, tree["categories"]), bool(tree["ordered"]))
        return pandas.Categorical.from_codes(_array(reader, tree["codes"]), dtype=categories)
    if "utc" in tree:
        from .moments import read_zone

        utc = pandas.DatetimeIndex(_array(reader, tree["utc"])).tz_localize("UTC")
        return utc.tz_convert(read_zone(tree["tz"])).array
    if "text" in tree:
        return _read_texts(reader, tree)
    if "ordinals" in tree:
        ordinals = _array(reader, tree["ordinals"])
        return pandas.PeriodIndex.from_ordinals(ordinals, freq=reader.text(tree, "freq")).array
    if "left" in tree:
        sides = [pandas.Index(_values(reader, tree[side])) for side in ("left", "right")]
        return pandas.arrays.IntervalArray.from_arrays(*sides, closed=reader.text(tree, "closed"))
    if "arrow" in tree:
        return _read_arrow(reader.buffer(tree["arrow"]))
    plain, mask = _array(reader, tree["values"]), _array(reader, tree["mask"])
    return getattr(pandas.arrays, _MASKED[plain.dtype.kind])(plain, mask)


def _array(reader: Reader, tree: Any) -> Any:
    if tree["$"] != "numpy.array":
        raise reader.damaged("an array", tree["$"])
    return read_array(reader, tree)


def _is_objects(values: Any) -> bool:
    """Whether the values are objects. Their dtype must be given, because pandas would guess another one."""
    return isinstance(values, package("numpy").ndarray) and values.dtype.kind == "O"


def _read_texts(reader: Reader, tree: Any) -> Any:
    pandas, numpy = package("pandas"), package("numpy")
    data = reader.buffer(tree["text"])
    lengths, missing = _array(reader, tree["lengths"]).tolist(), _array(reader, tree["missing"]).tolist()
    if len(lengths) != len(missing) or any(n < 0 for n in lengths) or sum(lengths) != len(data):
        raise reader.damaged("texts of these lengths", len(data))
    na = pandas.NA if tree["na"] == "NA" else numpy.nan
    made, at = [], 0
    for length, gone in zip(lengths, missing):
        made.append(na if gone else data[at : at + length].decode("utf-8", "surrogatepass"))
        at += length
    storage = reader.text(tree, "storage")
    if storage == "pyarrow":
        try:
            package("pyarrow")
        except Unreadable:
            storage = "python"  # the other storage of pandas, with equal values
    try:
        dtype = pandas.StringDtype(storage, na_value=na)
    except TypeError:  # pandas 2.2 and before
        dtype = pandas.StringDtype(storage)
    return pandas.array(made, dtype=dtype)


def _read_arrow(data: bytes) -> Any:
    arrow, pandas = package("pyarrow"), package("pandas")
    with arrow.ipc.open_stream(data) as stream:
        table = stream.read_all()
    table.validate(full=True)
    return pandas.arrays.ArrowExtensionArray(table.column(0))


# -- indexes -----------------------------------------------------------------------------------------------------


def _index(writer: Writer, index: Any) -> Dict[str, Any]:
    names = [writer.at(".name", name) for name in index.names]
    kind = type(index).__name__
    if kind == "RangeIndex":
        return {"range": [index.start, index.stop, index.step], "names": names}
    if kind == "MultiIndex":
        return {
            "levels": [_index(writer, level) for level in index.levels],
            "codes": [write_array(writer, package("numpy").asarray(codes)) for codes in index.codes],
            "names": names,
        }
    found = {"column": _column(writer, index), "names": names}
    if kind in ("DatetimeIndex", "TimedeltaIndex") and index.freq is not None:
        found["freq"] = _frequency(writer, index.freq)
    return found


def _frequency(writer: Writer, freq: Any) -> str:
    """The name of a frequency that pandas reads as that very one."""
    name: str = freq.freqstr
    try:
        if package("pandas").tseries.frequencies.to_offset(name) == freq:
            return name
    except ValueError:
        pass
    raise writer.refused(
        "has an index of the frequency %r, which has no name; set its freq to None" % (freq,)
    )


def _index_of(reader: Reader, tree: Any) -> Any:
    pandas = package("pandas")
    names = reader.items(tree["names"])
    if "range" in tree:
        made = pandas.RangeIndex(*map(reader.whole, tree["range"]))
    elif "levels" in tree:
        made = pandas.MultiIndex(
            levels=[_index_of(reader, level) for level in tree["levels"]],
            codes=[_array(reader, codes) for codes in tree["codes"]],
        )
    else:
        values = _values(reader, tree["column"])
        made = pandas.Index(values, dtype=object) if _is_objects(values) else pandas.Index(values)
        if "freq" in tree:
            made.freq = reader.text(tree, "freq")
    made.names = names
    return made


def write_index(writer: Writer, value: Any) -> Any:
    """An index."""
    writer.enter(value)
    tree = _index(writer, value)
    writer.leave()
    return writer.tag("pandas.Index", None, shape=[len(value)], dtypes=[_dtype_text(value)], **tree)


def read_index(reader: Reader, tree: Any) -> Any:
    """The reverse."""
    return _index_of(reader, tree)


def _dtype_text(values: Any) -> str:
    return str(getattr(values, "dtype", "object"))


# -- frames ------------------------------------------------------------------------------------------------------


def _own(writer: Writer, value: Any, name: str) -> None:
    if type(value) is not getattr(package("pandas"), name):
        raise writer.refused(
            "is of %s.%s, a subclass of pandas' %s; convert it to that"
            % (type(value).__module__, type(value).__qualname__, name)
        )
    if value.attrs and not isinstance(value.attrs, dict):
        raise writer.refused("has attrs that are no dict")


def _more(writer: Writer, value: Any) -> Dict[str, Any]:
    """What a frame or Series has beside its data, where it has it."""
    more: Dict[str, Any] = {"attrs": writer.at(".attrs", dict(value.attrs))} if value.attrs else {}
    if not value.flags.allows_duplicate_labels:
        more["unique_labels"] = True
    return more


def _with_more(reader: Reader, tree: Any, made: Any) -> Any:
    if "attrs" in tree:
        made.attrs = reader.read(tree["attrs"])
    if tree.get("unique_labels"):
        made.flags.allows_duplicate_labels = False
    return made


def write_frame(writer: Writer, value: Any) -> Any:
    """A DataFrame."""
    _own(writer, value, "DataFrame")
    writer.enter(value)
    data = []
    for position in range(value.shape[1]):
        writer._path.append("[%s]" % shown(value.columns[position]))
        data.append(_column(writer, value.iloc[:, position]))
        writer._path.pop()
    more = _more(writer, value)
    columns, index = _index(writer, value.columns), _index(writer, value.index)
    writer.leave()
    dtypes = [str(dtype) for dtype in value.dtypes]
    return writer.tag(
        "pandas.DataFrame",
        None,
        shape=list(value.shape),
        dtypes=dtypes,
        columns=columns,
        index=index,
        data=data,
        **more,
    )


def read_frame(reader: Reader, tree: Any) -> Any:
    """The reverse."""
    pandas = package("pandas")
    index, columns = _index_of(reader, tree["index"]), _index_of(reader, tree["columns"])
    data = [_named(reader, each, index) for each in tree["data"]]
    if len(columns) != len(data):
        raise reader.damaged("as many columns as names", len(data))
    made = pandas.DataFrame(dict(enumerate(data)), index=index, columns=range(len(data)))
    made.columns = columns
    return _with_more(reader, tree, made)


def _named(reader: Reader, tree: Any, index: Any) -> Any:
    values = _values(reader, tree)
    if len(values) != len(index):
        raise reader.damaged("a column of %d rows" % len(index), len(values))
    pandas = package("pandas")
    if _is_objects(values):
        return pandas.Series(values, index=index, dtype=object)
    return pandas.Series(values, index=index, copy=False)


def write_series(writer: Writer, value: Any) -> Any:
    """A Series."""
    _own(writer, value, "Series")
    writer.enter(value)
    more = _more(writer, value)
    tree = {"data": [_column(writer, value)], "index": _index(writer, value.index)}
    name = writer.at(".name", value.name)
    writer.leave()
    shape, dtypes = [len(value)], [str(value.dtype)]
    return writer.tag("pandas.Series", None, shape=shape, dtypes=dtypes, name=name, **tree, **more)


def read_series(reader: Reader, tree: Any) -> Any:
    """The reverse."""
    made = _named(reader, tree["data"][0], _index_of(reader, tree["index"]))
    made.name = reader.read(tree["name"])
    return _with_more(reader, tree, made)


# -- polars ------------------------------------------------------------------------------------------------------


def write_polars(writer: Writer, value: Any) -> Any:
    """A DataFrame or Series."""
    polars = package("polars")
    kind = "Series" if isinstance(value, polars.Series) else "DataFrame"
    if type(value) is not getattr(polars, kind):
        raise writer.refused("is of a subclass of polars' %s; convert it to that" % kind)
    frame = value.to_frame("0") if kind == "Series" else value
    if any("Object" in str(dtype) for dtype in frame.dtypes):
        raise writer.refused("has a column of Python objects; give it a dtype of polars")
    sink = standard("io").BytesIO()
    frame.write_ipc(sink, compression="uncompressed")
    more = {"name": writer.write(value.name)} if kind == "Series" else {"columns": list(frame.columns)}
    dtypes = [str(dtype) for dtype in frame.dtypes]
    shape = list(value.shape)
    return writer.tag("polars." + kind, writer.buffer(sink.getbuffer()), shape=shape, dtypes=dtypes, **more)


def read_polars(reader: Reader, tree: Any) -> Any:
    """The reverse."""
    polars = package("polars")
    data = standard("io").BytesIO(reader.buffer(tree["v"]))
    try:
        frame = polars.read_ipc(data)
    except BaseException as exc:
        if type(exc).__name__ != "PanicException" and not isinstance(exc, Exception):
            raise
        raise reader.damaged("a frame of polars", str(exc)[:80]) from None
    rows = [frame.height] if tree["$"] == "polars.Series" else [frame.height, frame.width]
    if rows != tree["shape"]:
        raise reader.damaged("a frame of the shape %r" % (tree["shape"],), rows)
    return frame.to_series(0).alias(reader.read(tree["name"])) if tree["$"] == "polars.Series" else frame
