"""Escaping of link names: nothing leaves the target, no two names share a segment, every name comes back."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from h5bound.names import escape, escape_siblings, unescape

if TYPE_CHECKING:
    from pathlib import Path

ORDINARY = [
    "data",
    "entry 1",
    "X",
    ".hidden",
    "a.b",
    "c",
    "0",
    "_x",
    "__categories",
    "a-b",
    "naïve",
    "温度",
    "a[0]{1}",
    "a'b&c=d",
]

ESCAPED = [
    pytest.param("zarr.json", "%7Aarr.json", id="metadata document of format 3"),
    pytest.param("ZARR.JSON", "%5AARR.JSON", id="metadata document where case is folded"),
    pytest.param(".zarray", "%2Ezarray", id="array document of format 2"),
    pytest.param(".zgroup", "%2Ezgroup", id="group document of format 2"),
    pytest.param(".zattrs", "%2Ezattrs", id="attribute document of format 2"),
    pytest.param(".zmetadata", "%2Ezmetadata", id="consolidated metadata of format 2"),
    pytest.param(".", "%2E", id="one period"),
    pytest.param("..", ".%2E", id="two periods"),
    pytest.param("...", "..%2E", id="three periods"),
    pytest.param("", "%", id="empty"),
    pytest.param("100%", "100%25", id="percent sign"),
    pytest.param("%41", "%2541", id="what looks like an escape"),
    pytest.param("a\\b", "a%5Cb", id="backslash"),
    pytest.param("a/b", "a%2Fb", id="slash"),
    pytest.param("a\nb\0", "a%0Ab%00", id="control characters"),
    pytest.param("\u202eb", "%E2%80%AEb", id="invisible character"),
    pytest.param('<>:"|?*', "%3C%3E%3A%22%7C%3F%2A", id="characters that Windows forbids"),
    pytest.param("a.", "a%2E", id="trailing period"),
    pytest.param("a ", "a%20", id="trailing space"),
    pytest.param("nul", "%6Eul", id="Windows device"),
    pytest.param("Com1.txt", "%43om1.txt", id="Windows device with an extension"),
    pytest.param("caf\udce9", "caf%E9", id="bytes that are not UTF-8"),
    pytest.param("cafe\u0301", "cafe%CC%81", id="text that is not in NFC"),
    pytest.param("\\\u0301", "%5C%CC%81", id="mark that would join with an escape"),
]

names = st.one_of(
    st.binary(max_size=300).map(os.fsdecode),
    st.text(st.sampled_from("aAbBcC.%_ \\/:\u0301éÉß\u017fKkK\u0131İ\udcff"), max_size=6),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=90),
    st.sampled_from(ORDINARY),
)


def folded(segment: str) -> set[str]:
    """Give what file systems that fold case or normalize may make of a segment."""
    forms = {segment, segment.casefold(), segment.upper(), segment.lower(), segment.upper().casefold()}
    return {unicodedata.normalize(form, text).casefold() for text in forms for form in ("NFC", "NFD")}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert escape(name) == unescape(name) == name


@pytest.mark.parametrize(("name", "segment"), ESCAPED)
def test_an_odd_name_is_escaped_and_comes_back(name: str, segment: str) -> None:
    assert escape(name) == segment
    assert unescape(segment) == name
    assert escape(os.fsencode(name)) == segment


@given(names)
@example("x" * 256)
@example("é" * 128)
@example("\\" * 200)
def test_every_segment_is_one_file_name_that_any_system_can_hold(name: str) -> None:
    segment = escape(name)
    assert 0 < len(segment.encode()) <= 255
    assert not set(segment) & set('/\\<>:"|?*\0')
    assert not {unicodedata.category(char) for char in segment} & {"Cc", "Cf", "Cs"}
    assert segment[-1] not in ". "
    assert unicodedata.is_normalized("NFC", segment)


@given(names)
def test_every_name_comes_back_from_its_segment_unless_it_was_too_long(name: str) -> None:
    segment = escape(name)
    name = os.fsdecode(os.fsencode(name))
    if "%~" in segment:
        assert len(os.fsencode(name)) * 3 > 255
        with pytest.raises(ValueError, match="too long"):
            unescape(segment)
    else:
        assert unescape(segment) == name


def test_long_names_that_differ_at_their_end_keep_apart() -> None:
    long = "x" * 300
    segments = {escape(long + end) for end in ("", "a", "A", "\\")}
    assert len({segment.casefold() for segment in segments}) == 4
    assert all(segment.startswith("x" * 100) and len(segment) == 255 for segment in segments)


def test_a_long_name_is_not_cut_inside_an_escape_or_a_character() -> None:
    for shift in range(4):
        for char in ("\\", "é", "温"):
            segment = escape("x" * shift + char * 300)
            start, _, _ = segment.rpartition("%~")
            assert unescape(start) == "x" * shift + char * (len(unescape(start)) - shift)


@pytest.mark.parametrize("segment", ["%4", "%zz", "%7a", "a%", "%%", ""])
def test_a_segment_that_no_name_has_is_refused(segment: str) -> None:
    with pytest.raises(ValueError, match="no escaped name"):
        unescape(segment)


def test_surrogates_that_stand_for_no_byte_are_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        escape("\ud800")


SIBLINGS = [
    pytest.param({"a": "a", "A": "%41"}, id="one letter"),
    pytest.param({"AB": "AB", "Ab": "%41b"}, id="none without capitals"),
    pytest.param({"ab": "ab", "AB": "%41%42", "aB": "a%42", "Ab": "%41b"}, id="all ways"),
    pytest.param({"é": "é", "e\u0301": "e%CC%81", "É": "%C3%89"}, id="case and normalization"),
    pytest.param({"ss": "ss", "ß": "%C3%9F"}, id="sharp s"),
    pytest.param({"k": "k", "\u212a": "%E2%84%AA"}, id="Kelvin sign"),
    pytest.param({"i": "i", "\u0131": "%C4%B1"}, id="dotless i"),
    pytest.param({"zarr.json": "%7Aarr.json", "Zarr.json": "%5Aarr.json"}, id="metadata documents"),
    pytest.param({"%41": "%2541", "A": "A"}, id="a name like an escape"),
]


@pytest.mark.parametrize("expected", SIBLINGS)
def test_siblings_that_fold_together_are_told_apart(expected: dict[str, str]) -> None:
    assert escape_siblings(expected) == expected
    assert escape_siblings(reversed(list(expected))) == expected


@given(st.lists(names, max_size=8, unique_by=os.fsencode))
@example(["I", "i", "İ", "\u0131", "i\u0307"])
@example(["\u017f", "s", "S", "ß", "ẞ", "SS", "ss"])
@example(["E\u0323", "e\u0323", "É\u0323"])
def test_segments_of_siblings_stay_apart_on_every_file_system(group: list[str]) -> None:
    segments = escape_siblings(group)
    assert list(segments) == group
    assert escape_siblings(sorted(group)) == segments
    for name, segment in segments.items():
        assert len(segment.encode()) <= 255
        assert "%~" in segment or unescape(segment) == os.fsdecode(os.fsencode(name))
        assert unicodedata.is_normalized("NFC", segment)
        assert all(folded(segment).isdisjoint(folded(segments[other])) for other in group if other != name)


@given(names)
def test_a_name_without_siblings_has_its_ordinary_segment(name: str) -> None:
    assert escape_siblings([name]) == {name: escape(name)}


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "..\\x", "C:\\x", "a/../../x", "\0", "con"])
def test_a_file_of_any_name_lies_directly_in_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / escape(name)).touch()
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]
    assert len(list((tmp_path / "target").iterdir())) == 1
