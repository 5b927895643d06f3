"""README and docs against the code: every command parses, every file and name they give exists.

That the commands also work is shown by tests/e2e/test_docs.py, which runs them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from typing import Any

import documents
import pytest
import typer
import yaml
from documents import ROOT, WALKED, Command, commands, inline_code, links, programs
from project import tracked

from flows.cli.main import app
from flows.stack.settings import PORTS

DOCUMENTS = (*WALKED, "docs/DEPLOYMENT.md", "docs/RESULTS.md")
CLI: Any = typer.main.get_command(app)
# Named in the docs, made by what the docs describe: not in a fresh clone.
MADE = {"docs/VERIFY.md", "infra/.env"}
_PATH = re.compile(r"(?:components|flows|infra|tests|docs|data)/[\w./-]*\w/?")


def of_iml(document: str) -> list[tuple[Command, list[str]]]:
    """Every call of `iml` in a document's blocks: the command, and its words after `iml`."""
    return [
        (command, words[1:])
        for command in commands(document)
        if "iml " in command.text
        for words in programs(command.text)
        if words[0] == "iml"
    ]


def refusal(words: list[str]) -> str | None:
    """Why `iml` would not take a command line, None where it would; nothing is run."""
    command, rest = CLI, list(words)
    try:
        context = CLI.make_context("iml", list(words))
        while hasattr(command, "commands"):
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, list(rest), parent=context)
    except Exception as error:
        if not hasattr(error, "format_message"):  # Typer brings its own copy of Click
            raise
        return str(error.format_message())
    return None


def wrong_mention(code: str) -> str | None:
    """What a command that text mentions gets wrong; it may be incomplete."""
    command, words = CLI, code.split()[1:]
    while words and hasattr(command, "commands") and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        if words[0] not in command.commands:
            return f"there is no {words[0]!r}"
        command = command.commands[words.pop(0)]
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    unknown = given - known - {"--help"}
    return f"no such options: {unknown}" if unknown else None


def test_the_extractor_takes_commands_as_a_shell_does(tmp_path) -> None:
    text = """
```sh
one --a "b # c"    # exit code 2: not good
# only a comment
two \\
  --more && three 2>&1 >/dev/null | four
X=1 python3 - <<'END'
five = "six"
END
for x in 1 2; do
  iml $x
done
```
"""
    (tmp_path / "doc.md").write_text(text)
    found = commands("doc.md", tmp_path)
    assert [(c.line, c.exit_code) for c in found] == [(3, 2), (5, 0), (7, 0), (10, 0)]
    assert programs(found[0].text) == [["one", "--a", "b # c"]]
    assert programs(found[1].text) == [["two", "--more"], ["three"], ["/dev/null"], ["four"]]
    assert found[2].text.endswith("\nEND")
    assert ["iml", "$x"] in [words[-2:] for words in programs(found[3].text)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_iml_parses(document: str) -> None:
    found = [(command.place, refusal(words)) for command, words in of_iml(document)]
    mentioned = [code for code in inline_code(document) if code.startswith("iml ")]
    found += [(code, wrong_mention(code)) for code in mentioned]
    assert [row for row in found if row[1]] == []


@pytest.mark.parametrize(
    "wrong",
    [["audit", "--deeper"], ["model", "crown", "x/1"], ["score"], ["model", "rollback", "x/1"]],
)
def test_a_wrong_command_is_seen(wrong: list[str]) -> None:
    assert refusal(wrong)


@pytest.mark.parametrize(
    "wrong", ["iml audits", "iml model crown M", "iml score SOURCE --into DIR"]
)
def test_a_wrong_mention_is_seen(wrong: str) -> None:
    assert wrong_mention(wrong)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document: str) -> None:
    there = {str(p) for name in tracked() for p in (ROOT / name, *(ROOT / name).parents)}

    def exists(name: str) -> bool:
        path = os.path.normpath(ROOT / name)
        return path in there or f"{path}.dvc" in there

    folder = os.path.dirname(document)
    missing = [link for link in links(document) if not exists(os.path.join(folder, link))]
    texts = [*inline_code(document), *(command.text for command in commands(document))]
    named = {path for text in texts for path in _PATH.findall(text) if not _made(path, text)}
    missing += [path for path in named if not exists(path)]
    assert missing == [], document


def _made(path: str, text: str) -> bool:
    """What a command makes, and paths in other folders that begin alike."""
    inside = re.search(rf"[\w$/.\"{{}}~-]{re.escape(path)}", text)
    data = path.startswith("data/") and not path.startswith("data/demo")
    return bool(inside) or data or path in MADE


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_target_and_parameter_that_is_named_exists(document: str) -> None:
    texts = [*inline_code(document), *(command.text for command in commands(document))]
    makefile = (ROOT / "Makefile").read_text()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for text in texts:
        for module in re.findall(r"-m ((?:components|flows)[\w.]+)", text):
            assert importlib.util.find_spec(module), text
        for target in re.findall(r"^make ([a-z]+)", text):
            assert re.search(rf"^{target}:", makefile, re.M), text
        for block, key in re.findall(r"(?<![\w.])([a-z]\w+)\.(\w+)", text):
            if block in params and key not in ("yaml", "json"):
                assert key in params[block], f"{text}: no {block}.{key} in params.yaml"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_that_is_named_is_read_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    listed = subprocess.run(
        [
            "git",
            "grep",
            "--untracked",
            "-ohE",
            r"IML_[A-Z0-9_]+",
            "--",
            "components",
            "flows",
            "infra",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    known = {*listed.stdout.split(), *(f"IML_{name.upper()}_PORT" for name in PORTS)}
    assert set(re.findall(r"IML_[A-Z0-9_]+", text)) <= known


def test_wrong_use_of_every_documented_command_has_exit_code_two(capsys) -> None:
    calls = {tuple(w for w in words if re.fullmatch(r"[a-z]+", w))[:2] for _, words in _all()}
    assert len(calls) > 15
    for words in calls:
        with pytest.raises(SystemExit) as left:
            CLI.main([*words, "--no-such-option"], prog_name="iml")
        assert left.value.code == 2, words


def _all() -> list[tuple[Command, list[str]]]:
    return [call for document in documents.WALKED for call in of_iml(document)]
