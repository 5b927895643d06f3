"""Expected failures leave as one line and an exit code; unexpected ones are not hidden."""

from __future__ import annotations

import errno
from importlib import import_module

import pytest

from components.core.errors import CheckError, ImlError, InputError, exit_on_error


@pytest.mark.parametrize(("kind", "code"), [(ImlError, 1), (CheckError, 1), (InputError, 2)])
def test_the_kind_decides_the_exit_code(
    kind: type[ImlError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise kind("it is\nbroken", where="here", hint="hint it")
    assert caught.value.code == code
    assert capsys.readouterr().err == "error: here: it is broken; hint it\n"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise OSError(errno.ENOSPC, "No space left on device", "out.png")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: out.png: No space left on device; free")


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        raise ZeroDivisionError
    with pytest.raises(ConnectionError), exit_on_error():
        raise ConnectionError(errno.ECONNRESET, "no")


def test_a_place_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise FileExistsError(errno.EEXIST, "File exists", "README.md")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: README.md: File exists; choose another")


def test_a_missing_package_is_one_line_that_names_the_extra(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_error():
        import_module("no_such_package.inner")
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: this needs the package no_such_package, which is not installed; "
        "pip install 'boxpromptiml[pipeline]'\n"
    )


@pytest.mark.parametrize("module", ["components.none", "flows.none", "json.none"])
def test_a_missing_module_of_what_is_installed_is_a_bug(module: str) -> None:
    with pytest.raises(ModuleNotFoundError), exit_on_error():
        import_module(module)
