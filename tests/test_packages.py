"""What is published: the versions of dependencies in all places, the recipe, and the README as PyPI shows it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import h5bound

ROOT = Path(__file__).parents[1]

NOT_ON_CONDA_FORGE = {"deflate"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Return what pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_bounds(requirements: list[str]) -> dict[str, str]:
    """Return the lower bounds of requirements like ``dask[array]>=2025.5``."""
    found = [re.match(r"([\w-]+)(?:\[\w+\])? ?>=([\d.]+)", text) for text in requirements]
    return {match[1].lower(): match[2] for match in found if match}


def pad(version: str) -> list[str]:
    """Return the three numbers of a version."""
    return [*version.split("."), "0", "0"][:3]


def test_the_oldest_versions_are_those_that_are_tested(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"].values()
    bounds = read_bounds([*project["project"]["dependencies"], *(text for extra in extras for text in extra)])
    lines = (ROOT / "tests" / "minimum.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    assert len(bounds) > 12
    assert {name: pad(tested[name]) for name in bounds} == {name: pad(bound) for name, bound in bounds.items()}


def test_every_lower_bound_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = text[text.index("\ndependencies = [") : text.index("\n[project.urls]")]
    bounded = [line for line in lists.splitlines() if ">=" in line]
    assert len(bounded) > 12
    assert [line for line in bounded if "  # " not in line] == []


def test_the_recipe_asks_for_the_same(project: dict[str, Any]) -> None:
    recipe = yaml.safe_load((ROOT / ".conda" / "recipe.yaml").read_text(encoding="utf-8"))
    needed, own = project["project"]["dependencies"], project["project"]["optional-dependencies"]["cli"]
    bounds = {name: bound for name, bound in read_bounds([*needed, *own]).items() if name not in NOT_ON_CONDA_FORGE}
    bounds["dask-core"] = bounds.pop("dask")
    assert read_bounds(recipe["requirements"]["run"][1:]) == bounds
    assert recipe["context"]["version"] == h5bound.__version__
    assert project["project"]["requires-python"] == f">={recipe['context']['python_min']}"
    build = read_bounds(project["build-system"]["requires"])
    assert build.items() <= read_bounds(recipe["requirements"]["host"]).items()
    ((name, function),) = project["project"]["scripts"].items()
    assert recipe["build"]["python"]["entry_points"] == [f"{name} = {function}"]


def test_links_and_pictures_of_the_readme_lead_to_the_repository_on_pypi(project: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme
    for rule in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        shown = re.sub(rule["pattern"], rule["replacement"], shown)
    before, after = (re.findall(r"\]\(([^)]+)\)", text) for text in (readme, shown))
    own = [(link, seen) for link, seen in zip(before, after, strict=True) if "://" not in link]
    assert len(own) > 12
    repository = project["project"]["urls"]["Source"]
    raw = repository.replace("github.com", "raw.githubusercontent.com")
    for link, seen in own:
        place = f"{raw}/" if link.endswith(".svg") else f"{repository}/blob/"
        assert seen == f"{place}v$HFPR_VERSION/{link}"
    assert len(readme.splitlines()) <= 120


def test_the_actions_of_the_workflows_are_pinned_by_commits() -> None:
    text = "".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    used = re.findall(r"uses: (\S+)@(.+)", text)
    assert len(used) > 8
    loose = {action for action, version in used if not re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", version)}
    assert loose == {"pypa/gh-action-pypi-publish"}  # a branch, as its documentation asks for


def test_every_job_of_the_workflows_has_a_name_and_runs_what_there_is() -> None:
    environments = re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)
    workflows = [yaml.safe_load(path.read_bytes()) for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    jobs = {name: job for workflow in workflows for name, job in workflow["jobs"].items()}
    assert len(jobs) >= 5
    assert [name for name, job in jobs.items() if not job.get("name")] == []
    assert set(jobs["tox"]["strategy"]["matrix"]["environment"]) <= set(environments)
