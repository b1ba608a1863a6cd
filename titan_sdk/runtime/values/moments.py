"""Dates and times with their zones, and decimals and UUIDs."""

from __future__ import annotations

from .errors import Unreadable
from .standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    from .reading import Reader
    from .writing import Writer

__all__ = [
    "read_date",
    "read_datetime",
    "read_decimal",
    "read_time",
    "read_timedelta",
    "read_uuid",
    "read_zone",
    "write_date",
    "write_datetime",
    "write_decimal",
    "write_time",
    "write_timedelta",
    "write_uuid",
    "write_zone",
]

_ZONE = r"[A-Za-z0-9_+\-]{1,64}(/[A-Za-z0-9_+\-]{1,64}){0,4}"


def write_datetime(writer: Writer, value: Any) -> Any:
    """A datetime. Of a subclass, such as pendulum's, the moment and the zone."""
    kind = standard("datetime").datetime
    fields = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return writer.tag("datetime", kind(*fields).isoformat(), **_zoned(writer, value, value))


def write_time(writer: Writer, value: Any) -> Any:
    """A time of day."""
    naive = standard("datetime").time(value.hour, value.minute, value.second, value.microsecond)
    return writer.tag("time", naive.isoformat(), **_zoned(writer, value, None))


def write_date(writer: Writer, value: Any) -> Any:
    """A date."""
    return writer.tag("date", standard("datetime").date(value.year, value.month, value.day).isoformat())


def write_timedelta(writer: Writer, value: Any) -> Any:
    """A duration. Of pendulum's class, its length."""
    plain = standard("datetime").timedelta
    # A subclass may give ``days`` another meaning, so the span is computed by the base type.
    span = plain(microseconds=_microseconds(value))
    return writer.tag("timedelta", [span.days, span.seconds, span.microseconds])


def _microseconds(value: Any) -> int:
    base = standard("datetime").timedelta
    days, seconds = base.days.__get__(value), base.seconds.__get__(value)
    return int((days * 86400 + seconds) * 1000000 + base.microseconds.__get__(value))


def write_decimal(writer: Writer, value: Any) -> Any:
    """A Decimal with its sign, exponent and kind of NaN."""
    return writer.tag("decimal", standard("decimal").Decimal.__str__(value))


def write_uuid(writer: Writer, value: Any) -> Any:
    """A UUID."""
    return writer.tag("uuid", str(value))


def _zoned(writer: Writer, value: Any, moment: Any) -> Dict[str, Any]:
    fields: Dict[str, Any] = {}
    if value.fold:
        fields["fold"] = 1
    if value.tzinfo is not None:
        fields["tz"] = write_zone(writer, value.tzinfo, moment)
        if moment is not None and not fields.get("fold") and "pytz" in type(value.tzinfo).__module__:
            # pytz marks the second of two equal hours by its zone object, not by fold.
            again = value.replace(tzinfo=read_zone(fields["tz"]), fold=1)
            if again.replace(fold=0).utcoffset() != value.utcoffset() == again.utcoffset():
                fields["fold"] = 1
    return fields


def write_zone(writer: Writer, zone: Any, moment: Any = None) -> Dict[str, Any]:
    """A time zone: its name in the IANA database, or its offset from UTC."""
    datetime = standard("datetime")
    names = {base.__qualname__ for base in type(zone).__mro__}
    if isinstance(zone, datetime.timezone):
        given = zone.__getinitargs__()
        return _offset(given[0], given[1] if len(given) > 1 else None)
    key = getattr(zone, "key", None) if "ZoneInfo" in names else getattr(zone, "zone", None)
    if isinstance(key, str) and standard("re").fullmatch(_ZONE, key):
        return {"zone": key}
    if key is None and names & {"FixedTimezone", "_FixedOffset", "tzutc", "tzoffset"}:
        return _offset(zone.utcoffset(moment), None)
    raise writer.refused(
        "has the time zone %.100r, which has no name that the other end would know; use zoneinfo.ZoneInfo(name)"
        % (zone,)
    )


def _offset(distance: Any, name: Any) -> Dict[str, Any]:
    seconds, rest = divmod(_microseconds(distance), 1000000)
    found: Dict[str, Any] = {"offset": [seconds, rest]}
    if name is not None:
        found["name"] = name
    return found


def read_zone(tree: Any) -> Any:
    """The time zone of a ZONE."""
    datetime = standard("datetime")
    if "offset" in tree:
        seconds, rest = tree["offset"]
        distance = datetime.timedelta(seconds=seconds, microseconds=rest)
        return datetime.timezone(distance, tree["name"]) if "name" in tree else datetime.timezone(distance)
    name = tree["zone"]
    if not isinstance(name, str) or not standard("re").fullmatch(_ZONE, name):
        raise Unreadable("%.80r is no name of a time zone" % (name,))
    try:
        return standard("zoneinfo").ZoneInfo(name)
    except ImportError:  # Python 3.8
        problem = "this Python is older than 3.9 and has no module zoneinfo"
    except (KeyError, ValueError, OSError):  # an unknown zone is a KeyError
        problem = "this machine does not know it; install the package tzdata"
    if name == "UTC":
        return datetime.timezone.utc
    raise Unreadable("a time is in the zone %s, and %s" % (name, problem))


def read_datetime(reader: Reader, tree: Any) -> Any:
    """A datetime."""
    return _with_zone(standard("datetime").datetime.fromisoformat(reader.text(tree)), tree)


def read_time(reader: Reader, tree: Any) -> Any:
    """A time of day."""
    return _with_zone(standard("datetime").time.fromisoformat(reader.text(tree)), tree)


def _with_zone(value: Any, tree: Any) -> Any:
    zone = read_zone(tree["tz"]) if "tz" in tree else None
    return value.replace(tzinfo=zone, fold=1 if tree.get("fold") == 1 else 0)


def read_date(reader: Reader, tree: Any) -> Any:
    """A date."""
    return standard("datetime").date.fromisoformat(reader.text(tree))


def read_timedelta(reader: Reader, tree: Any) -> Any:
    """A duration."""
    days, seconds, microseconds = map(reader.whole, tree["v"])
    return standard("datetime").timedelta(days, seconds, microseconds)


def read_decimal(reader: Reader, tree: Any) -> Any:
    """A Decimal."""
    return standard("decimal").Decimal(reader.text(tree))


def read_uuid(reader: Reader, tree: Any) -> Any:
    """A UUID."""
    return standard("uuid").UUID(reader.text(tree))
