"""The page on many files does what it says, with a server of S3."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from h5bound.cli.main import run_command
from tests.support.servers import serve_s3
from tests.support.stores import new_bucket, s3_options

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "many-files.md"


@pytest.fixture
def bucket() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a new bucket of a server of S3, and the options of fsspec for it."""
    with serve_s3() as address:
        yield new_bucket(address), s3_options(address)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of xarray about consolidated metadata, of s3fs at the end
def test_the_page_on_many_files_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: tuple[str, dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    python = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    commands = re.findall(r"^\$ h5bound (.*)$", text, re.MULTILINE)
    assert len(commands) == 3
    names: dict[str, object] = {}
    url, options = f"s3://{bucket[0]}/2026.zarr", bucket[1]
    exec(python[0], names)
    (tmp_path / "s3.json").write_text(json.dumps(options))
    for number, command in enumerate(commands):
        if number == 2:  # a file came in the meantime
            with xr.open_dataset("days/2026-01-03.nc", engine="h5netcdf", decode_times=False) as last:
                later = last.load().assign_coords(time=last.time + 6)
            later.time.attrs.update(last.time.attrs)
            later.to_netcdf("days/2026-01-04.nc", engine="h5netcdf", unlimited_dims=["time"])
        assert (
            run_command([*shlex.split(command.replace("s3://bucket/2026.zarr", url)), "--target-options", "s3.json"])
            == 0
        )
    with xr.open_mfdataset("days/*.nc", engine="h5netcdf", combine="nested", concat_dim="time") as expected:
        found = xr.open_zarr(url, storage_options=options)
        np.testing.assert_array_equal(found.t2m.values, expected.t2m.values)
        np.testing.assert_array_equal(found.time.values, expected.time.values)
    Path("days/2026-01-04.nc").unlink()
    for code in python[1:]:
        exec(code, names)
