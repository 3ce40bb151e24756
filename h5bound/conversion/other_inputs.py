"""How the work of another conversion differs from this one, in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from h5bound.errors import TargetError
from h5bound.files.file_state import FileState
from h5bound.hdf5.type_json import text_from_json
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.stores.target import Target


def other_conversion(target: Target, there: Mapping[str, Any], here: Mapping[str, Any]) -> TargetError:
    """Return the error for the work of another conversion, with the differences."""
    now = json.loads(json.dumps(here))
    before, combined = "combined" in there, "combined" in now
    changed = [] if before or combined else list(list_changed_files(there, now))
    if changed:
        files = " and ".join(changed)
        return TargetError(
            f"{target.url}: cannot resume: {files} since the store was begun; convert again with overwrite=True"
        )
    parts = list(list_differing(there, now)) or ["other objects skipped, or a version between two releases"]
    if before != combined:  # the sizes of one file and of many say nothing
        parts = ["combine, now convert" if before else "convert, now combine"]
    again = "repeat the first source and options"
    if before and combined:
        again = "repeat the first files and options, and add other files to the complete store with append=True"
    return TargetError(
        f"{target.url}: cannot resume: the store was begun with {'; '.join(parts)}; {again}, or overwrite=True "
        "replaces it"
    )


def list_changed_files(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the source and external files of the same names differ between two descriptions of conversions.

    >>> before, now = ({"source": {"path": "a.h5", "size": size, "mtime_ns": 1}} for size in (4296, 6352))
    >>> list(list_changed_files(before, now))
    ['the source a.h5 changed (size 4,296 → 6,352 bytes)']
    """
    for role, ones, others in (
        ("source", [there.get("source")], [here["source"]]),
        ("external file", there.get("external", []), here.get("external", [])),
    ):
        before = [one for one in ones if isinstance(one, dict)] if isinstance(ones, list) else []
        known = {str(one.get("path")): one for one in before}
        for other in others:
            if other not in before and str(other["path"]) in known:
                change = describe_file_change(known[str(other["path"])], other)
                yield f"the {role} {text_from_json(other['path'])} changed{change}"


def describe_file_change(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the differences of two entries of a file in brackets, "" if one is damaged."""
    try:
        before, now = (
            FileState(entry["size"], entry["mtime_ns"], stamps=tuple(sorted(entry.get("stamps", {}).items())))
            for entry in (one, other)
        )
        return f" ({before.describe_change(now)})"
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return ""


def list_differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between two descriptions of conversions in JSON, of files only their names.

    >>> list(list_differing({"version": 1, "limits": {"a": 1, "b": 2}}, {"version": 1, "limits": {"a": 3}}))
    ['a=1, now a=3', 'b=2, now b=None']
    >>> list(list_differing({"name_limits": {"folds": True}}, {"name_limits": {"folds": False}}))
    ['a target that holds other names']
    >>> list(list_differing({}, {"external": [{"path": "b.h5"}]}))
    ['data of no other file, now of b.h5 (allow_external)']
    >>> list(list_differing({"rules": {"dim": "time", "new": False}}, {"rules": {"dim": "run", "new": True}}))
    ['new_dim=None, now new_dim=run', 'dim=time, now dim=None']
    """
    for name in (name for name in dict.fromkeys([*here, "external"]) if name != "fingerprint"):
        one, other = name_files(name, there.get(name)), name_files(name, here.get(name))
        if name == "external" and one != other:
            before, now = (", ".join(map(str, files if isinstance(files, list) else ())) for files in (one, other))
            yield f"data of {before or 'no other file'}, now of {now or 'no other file'} (allow_external)"
        elif name == "combined" and isinstance(one, dict) and isinstance(other, dict):
            yield from list_differing_files(one, other)
        elif name == "name_limits":
            yield from ["a target that holds other names"] if isinstance(one, dict) and one != other else []
        elif isinstance(one, dict) and isinstance(other, dict):
            one, other = (spell_rules(rules) if name == "rules" else rules for rules in (one, other))
            parts = [part for part in other | one if one.get(part) != other.get(part)]
            prefix = "" if name in ("settings", "limits", "rules") else f"{name}."
            yield from (f"{prefix}{part}={one.get(part)}, now {prefix}{part}={other.get(part)}" for part in parts)
        elif one != other:
            yield f"{name}={one}, now {name}={other}"


def spell_rules(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules of a combination by the names of their options."""
    others = {name: value for name, value in rules.items() if name not in ("dim", "new")}
    return {"new_dim" if rules.get("new") else "dim": rules.get("dim"), **others}


def name_files(name: str, value: Any) -> Any:
    """Return the names of files in place of their entries; any other value as it is."""
    if name == "source" and isinstance(value, dict):
        return value.get("path")
    if name == "external" and isinstance(value, list):
        return [entry.get("path") if isinstance(entry, dict) else entry for entry in value]
    return value


def list_differing_files(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences of two descriptions of many files that were combined.

    >>> one, other = ({"rules": {"dim": dim}, "files": files} for dim, files in (("time", [1, 2]), ("x", [1])))
    >>> list(list_differing_files(one, other))
    ["dim='time', now dim='x'", '2 files, now 1 file']
    """
    rules, now = (spell_rules(entry.get("rules", {})) for entry in (one, other))
    names = [name for name in now | rules if rules.get(name) != now.get(name)]
    yield from (f"{name}={rules.get(name)!r}, now {name}={now.get(name)!r}" for name in names)
    files, others = one.get("files", []), other.get("files", [])
    if len(files) != len(others):
        yield f"{plural(len(files), 'file')}, now {plural(len(others), 'file')}"
    elif files != others:
        yield "other files, or files that changed since"
