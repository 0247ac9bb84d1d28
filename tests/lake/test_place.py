"""Where the lake lies: what the settings let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from drystone.errors import SettingsError
from drystone.settings import load

BUCKET = '[project]\nstate = "s3://bucket/one/two"\n'


def project(folder: Path, text: str) -> Path:
    (folder / "drystone.toml").write_text(text)
    return folder


def test_a_bucket_keeps_the_ledger_in_a_local_folder(tmp_path: Path) -> None:
    found = load(project(tmp_path, BUCKET), environ={})
    assert found.bucket == "s3://bucket/one/two" and found.state == tmp_path / ".drystone" and found.storage == {}
    found = load(tmp_path, environ={"DRYSTONE_PROJECT_LOCAL": "here", "DRYSTONE_PROJECT_STATE": "s3://bucket/"})
    assert found.bucket == "s3://bucket" and found.state == tmp_path / "here"
    found = load(project(tmp_path, '[project]\nstate = "there"\nlocal = "here"\n'), environ={})
    assert found.bucket is None and found.state == tmp_path / "there"


@pytest.mark.parametrize(
    "state",
    ["gs://bucket/x", "az://c/x", "http://bucket/x", "s3://", "s3://b", "s3://bucket//x", "s3://bucket/../x",
     "s3://bucket/x?endpoint=http://evil", "s3://user:word@bucket/x", "s3://Bucket/x", "s3://bucket/a b", "S3://bucket"],
)  # fmt: skip
def test_what_is_no_bucket_is_refused(tmp_path: Path, state: str) -> None:
    with pytest.raises(SettingsError):
        load(project(tmp_path, f'[project]\nstate = "{state}"\n'), environ={})


@pytest.mark.parametrize(
    "options",
    ['endpont = "https://a"', "endpoint = 1", 'endpoint = "a:9000"', 'endpoint = "https://a/b"',
     'endpoint = "https://user:word@a"', 'endpoint = "http://store.example"', 'endpoint = "http://127.0.0.1.evil"',
     'key = "AKIA"\nsecret = "env:B"', 'key = "env:A"', 'secret = "env:A"', 'token = "env:A"',
     'allow_http = "true"', "region = true"],
)  # fmt: skip
def test_options_that_are_wrong_are_refused_and_never_said(tmp_path: Path, options: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(project(tmp_path, f"{BUCKET}[storage]\n{options}\n"), environ={})
    assert "AKIA" not in str(caught.value) and "word" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    ['endpoint = "http://127.0.0.1:9000"', 'endpoint = "http://[::1]:9000/"', 'endpoint = "http://localhost"',
     'endpoint = "https://store.example:9000"', 'endpoint = "http://store.example"\nallow_http = true',
     'key = "env:A"\nsecret = "file:b"\ntoken = "env:C"\nregion = "eu-west-1"'],
)  # fmt: skip
def test_options_that_are_right_are_kept(tmp_path: Path, options: str) -> None:
    found = load(project(tmp_path, f"{BUCKET}[storage]\n{options}\n"), environ={})
    assert len(found.storage) == len(options.splitlines())
    (tmp_path / "drystone.two.toml").write_text('[storage]\nregion = "eu-west-1"\n')
    assert load(tmp_path, "two", environ={}).storage == {"region": "eu-west-1"}  # replaced whole, as [embedding] is
