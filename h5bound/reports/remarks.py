"""What a report says of many objects, grouped: each reason once, with its count and a few of the objects."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from h5bound.reports.text import count_rows, cut, plural, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

EXAMPLES = 3
"""Things that a line names at most."""

EXAMPLE_WIDTH = 40
"""Characters of such a name, more where lines are long; in a pipe no name is cut."""

FORMS = (*((limit, examples) for examples in (3, 1) for limit in (10, 7, 5, 4)), (3, 1), (2, 1))
"""Numbers of remarks of one kind, and of things that each names: what is shown, as far as it fits."""

OWN_WORDS = (
    (re.compile(r"(?:^|(?<=; ))[\d,]+ of [\d,]+ chunks "), "some chunks "),
    (re.compile(r"^(external|soft|user-defined) link (?:to|of) .+?: "), r"\1 link: "),
    (re.compile(r"allow_external=\[(?:'[^']*'|\"[^\"]*\")\] reads"), "allow_external=[its directory] reads"),
    (re.compile(r"it leads to nothing: .*"), "it leads to nothing"),
    (re.compile(r"^(external storage|virtual source) '.+?': "), r"\1: "),
    (re.compile(r"^cannot resume: the (source|external file) .+? changed \(.+?\) "), r"cannot resume: the \1 changed "),
    (re.compile(r"^the store is complete, but .+? (is|are) missing"), "the store is complete, but keys are missing"),
    (
        re.compile(r"^the store is complete, but .+? (was (changed|added) by another program|in place of [\d,]+)"),
        "the store is complete, but another program changed it",
    ),
    (re.compile(r"^attribute ('[^']*'|\"[^\"]*\") "), "attribute "),
)
"""Parts of reasons that differ from object to object, and what stands for them where a line speaks of several."""

ARROW = " -> "
"""Between the path of a link, or of a node that is renamed, and the other one."""

PLAIN = {"dataset", "file", "object"}
"""Nouns that are left out before a name."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What a report says of one thing. All text is printable."""

    noun: str
    """What it is, like ``attribute``."""
    name: str
    reason: str

    @classmethod
    def of(cls, noun: str, name: str, reason: str) -> Fact:
        """Return a fact with names and reasons as they are in a report."""
        return cls(noun, printable(name), printable(reason))

    def abbreviate(self, width: int) -> str:
        """Return a name of at most `width` characters, without what a link refers to if that would make it longer."""
        name = self.name if len(self.name) <= width else self.name.partition(ARROW)[0]
        return cut(name, width)

    @property
    def label(self) -> str:
        """The name, after the noun where it says more."""
        return self.name if self.noun in PLAIN else f"{self.noun} {self.name}"

    def __str__(self) -> str:
        return f"{self.label}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Remark:
    """One reason, and all things of one kind that it holds for."""

    reason: str
    facts: tuple[Fact, ...]

    def describe(self, examples: int = EXAMPLES, width: int | None = None) -> str:
        """Return the line that names so many of the things, fewer if it is wider than `width` otherwise."""
        if len(self.facts) == 1:
            return str(self.facts[0])
        longest = max(EXAMPLE_WIDTH, (width or 0) // (2 * EXAMPLES))
        named = [fact.abbreviate(longest) for fact in self.facts[:examples]]
        more = ["…"] if len(self.facts) > examples else []
        line = f"{plural(len(self.facts), self.facts[0].noun)}: {self.reason} ({', '.join([*named, *more])})"
        return line if width is None or len(line) <= width or examples == 1 else self.describe(examples - 1, width)


@dataclass(frozen=True, slots=True)
class Section:
    """All remarks of one kind."""

    title: str
    """Like ``skipped``."""
    remarks: tuple[Remark, ...]
    """The one with the most objects first."""

    def reword(self, change: Callable[[str], str]) -> Section:
        """Return the section with changed reasons."""
        remarks = (
            Remark(change(remark.reason), tuple(replace(fact, reason=change(fact.reason)) for fact in remark.facts))
            for remark in self.remarks
        )
        return Section(self.title, tuple(remarks))

    def list_lines(self, limit: int, width: int, examples: int = EXAMPLES) -> list[str]:
        """Return a line for each of so many remarks, and one for the others; a line takes two rows at most."""
        room = 2 * width - len(self.title) - 2
        remarks = [remark.describe(examples, room) for remark in self.remarks[:limit]]
        lines = [f"{self.title}: {cut_end(text, room)}" for text in remarks]
        rest = self.remarks[limit:]
        if rest:
            count = sum(len(remark.facts) for remark in rest)
            others = plural(len(rest), "other reason" if limit else "reason")
            lines.append(f"{self.title}: … {'and ' if limit else ''}{count:,} for {others}")
        return lines

    def list_all(self) -> list[str]:
        """Return a line for each thing."""
        return [f"{self.title}: {fact}" for remark in self.remarks for fact in remark.facts]


def cut_end(text: str, width: int) -> str:
    """Return text of at most `width` characters; a bracket that is cut is closed.

    >>> cut_end("2 objects: odd (/a, /b)", 21), cut_end("2 objects: odd (/a, /b)", 12)
    ('2 objects: odd (/a,…)', '2 objects: …')
    """
    if len(text) <= width:
        return text
    kept = text[: width - 2]
    return f"{kept}…)" if kept.count("(") > kept.count(")") else f"{text[: width - 1]}…"


def group_facts(facts: Iterable[Fact]) -> tuple[Remark, ...]:
    """Return the remarks that facts amount to, the one on the most things first.

    >>> facts = [Fact("object", name, reason) for name, reason in (("/a", "odd"), ("/b", "gone"), ("/c", "odd"))]
    >>> [remark.describe() for remark in group_facts(facts)]
    ['2 objects: odd (/a, /c)', '/b: gone']
    """
    groups: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    general_of: dict[str, str] = {}  # a thousand datasets have one reason
    for fact in facts:
        if fact.reason not in general_of:
            general_of[fact.reason] = generalise(fact.reason)
        groups[fact.noun, general_of[fact.reason]].append(fact)
    remarks = [
        Remark(members[0].reason if len({fact.reason for fact in members}) == 1 else general, tuple(members))
        for (_, general), members in groups.items()
    ]
    return tuple(sorted(remarks, key=lambda remark: -len(remark.facts)))


def generalise(reason: str) -> str:
    """Return a reason without the words that it has for one object only.

    >>> generalise("3 of 20 chunks re-encoded"), generalise("external link to a.h5: no such file")
    ('some chunks re-encoded', 'external link: no such file')
    """
    for pattern, words in OWN_WORDS:
        reason = pattern.sub(words, reason)
    return reason


def merge_sections(files: Iterable[tuple[str, Iterable[Section]]]) -> tuple[Section, ...]:
    """Return the sections of all files by their titles, with the file before each name."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for file, sections in files:
        for section in sections:
            for remark in section.remarks:
                facts[section.title] += [replace(fact, name=f"{file}: {fact.name}") for fact in remark.facts]
    return tuple(Section(title, group_facts(them)) for title, them in facts.items())


def fit_sections(sections: Iterable[Section], *, height: int, width: int) -> list[str]:
    """Return lines that take at most `height` rows of `width` columns, with as many remarks as fit.

    Rather a remark names fewer things than another remark is left out, and rather one of a later section. Each section
    has at least a line with its numbers.
    """
    filled = [section for section in sections if section.remarks]
    lines: list[str] = []
    for forms in list_forms(len(filled)):
        lines = [
            line
            for section, (limit, examples) in zip(filled, forms, strict=True)
            for line in section.list_lines(limit, width, examples)
        ]
        if sum(count_rows(line, width) for line in lines) <= height:
            break
    return lines


def list_forms(count: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the forms of so many sections, from the longest to the shortest."""
    for form in FORMS:
        yield [form] * count
    for longer, shorter in ((FORMS[-1], (1, 1)), ((1, 1), (0, 0))):
        for kept in reversed(range(count)):
            yield [longer] * kept + [shorter] * (count - kept)
