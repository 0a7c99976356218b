"""Code blocks of the documentation: Python runs, YAML fits its schema, commands exist."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import MagicMock

import click
import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

import volflow
from tests.docs.pages import PAGES, ROOT, CodeBlock, code_blocks, code_spans, shell_commands
from volflow.checkpoints.find import DeclaredNetwork
from volflow.cli import main
from volflow.config.bundled import bundled, find_bundled
from volflow.config.pipeline import StepSpec, VolumeSpec, from_dict, read
from volflow.core.stage import Units, find_stage
from volflow.engine.executors.profile import Profile
from volflow.stages.predict import Predict
from volflow.train.config.pretraining import Pretraining
from volflow.train.config.training import Training
from volflow.train.kinds import kind_of

LANGUAGES = {"python", "yaml", "sh", "json", "text"}
BLOCKS = [block for page in PAGES for block in code_blocks(page)]
FRAGMENTS: tuple[type[BaseModel], ...] = (DeclaredNetwork, Predict, Training)
"""Models whose keys a YAML block may show without the rest of the file."""


def of(*languages: str) -> list[CodeBlock]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_names_its_language(block: CodeBlock) -> None:
    assert block.language in LANGUAGES, f"{block}: expected one of {sorted(LANGUAGES)}"


# Python


@pytest.fixture
def weights(workplace: Path) -> Iterator[None]:
    """The network of the page on networks of one's own, with its weights in both forms."""
    import torch
    from safetensors.torch import save_file

    page = ROOT / "docs" / "bring-your-own-network.md"
    (module,) = (block for block in code_blocks(page) if block.file_name == "my_networks.py")
    (workplace / "my_networks.py").write_text(module.text)
    from my_networks import Small  # type: ignore[import-not-found]

    state = Small().state_dict()
    torch.save(state, "small.pt")
    save_file(state, "small.safetensors")
    yield
    sys.modules.pop("my_networks", None)


@pytest.fixture
def segmentation(workplace: Path) -> None:
    """The segmentation of a run in `out`; only blocks that do not run a pipeline may read it."""
    truth = volflow.open_volume("truth.zarr")
    volflow.write_volume("precomputed://out/segmentation", truth[...], resolution=truth.resolution)


@pytest.mark.usefixtures("workplace", "weights")
@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_runs(
    block: CodeBlock, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if block.page.name == "take-it-elsewhere.md":
        request.getfixturevalue("segmentation")
        monkeypatch.setitem(sys.modules, "napari", MagicMock())
    exec(compile(block.text, str(block), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_imports_volflow_by_its_public_names_only(block: CodeBlock) -> None:
    inner = re.findall(r"^\s*(?:from|import)\s+(volflow\.[\w.]+)", block.text, re.MULTILINE)
    assert [name for name in inner if name != "volflow.metrics"] == []


# YAML


@pytest.mark.usefixtures("workplace", "weights")
@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_fits_its_schema(block: CodeBlock) -> None:
    documents = list(yaml.safe_load_all(block.text))
    assert documents
    for document in documents:
        check_document(document)


def check_document(document: Any) -> None:
    """Validate a pipeline, profile, training or Kubernetes object, or a fragment of a file."""
    if isinstance(document, list):
        for step in document:
            check_step(StepSpec.model_validate(step))
    elif "apiVersion" in document:
        assert {"kind", "metadata", "spec"} <= document.keys()
    elif {"out", "sources"} <= document.keys():
        Training.model_validate(document)
    elif "cluster" in document:
        Profile.model_validate(document)
    elif "steps" in document:
        for spec in from_dict({"run": "out", **document}).steps:
            check_step(spec)
    elif document.keys() == {"volumes"}:
        TypeAdapter(dict[str, VolumeSpec]).validate_python(document["volumes"])
    else:
        check_fragment(document)


def check_step(spec: StepSpec) -> None:
    if ":" not in spec.use:
        find_stage(spec.use).model_validate(spec.with_, context=Units())


def check_fragment(document: dict[str, Any]) -> None:
    """Validate some keys of a model, whichever of `FRAGMENTS` has them all."""
    for model in FRAGMENTS:
        if document.keys() <= model.model_fields.keys():
            for key, value in document.items():
                check_key(model, key, value)
            return
    raise AssertionError(f"no model has the keys {sorted(document)}")


def check_key(model: type[BaseModel], key: str, value: Any) -> None:
    field = model.model_fields[key]
    expected: Any = field.annotation
    if (model, key) == (Predict, "network"):
        for inner, inside in value.items():
            check_key(DeclaredNetwork, inner, inside)
        return
    for constraint in field.metadata:
        expected = Annotated[expected, constraint]
    TypeAdapter(expected).validate_python(value)


@pytest.mark.parametrize(
    "text",
    [
        "{cluster: slurm, pols: {}}",
        "steps: [{use: fragments, with: {hihg: 3}}]",
        "- use: no_such_stage",
        "{normalisation: {kind: percentiles, lower: 0.1}}",
        "{masks: {cleft: {chanels: [cleft]}}}",
    ],
)
def test_yaml_that_does_not_fit_is_detected(text: str) -> None:
    with pytest.raises((ValueError, AssertionError)):
        check_document(yaml.safe_load(text))


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_parses(block: CodeBlock) -> None:
    json.loads(block.text)


# Commands


def commands() -> list[Any]:
    """Every command in a shell block, and every `volflow ...` between backticks in prose."""
    cases = [
        pytest.param(words, False, id=f"{block}: {' '.join(words)}")
        for block in of("sh")
        for words in shell_commands(block.text)
    ]
    for page in PAGES:
        for line, span in code_spans(page):
            if span.startswith(("volflow ", "make ", "pip ", "pytest ")) or re.match(
                r"python3? (-m |\w+/)", span
            ):
                cases.append(
                    pytest.param(
                        *(shell_commands(span)[0], True),
                        id=f"{page.relative_to(ROOT)}:{line}: {span}",
                    )
                )
    return cases


@pytest.mark.parametrize(("words", "partial"), commands())
def test_commands_exist(words: list[str], partial: bool) -> None:
    check_command([word for word in words if word not in ("[...]", "...")], partial)


def check_command(words: list[str], partial: bool = False) -> None:
    """Check a command line; a `partial` one may leave out what it needs."""
    while "=" in words[0]:  # variables of the environment
        words = words[1:]
    program = words[0].rpartition("/")[2]
    if program == "volflow":
        check_volflow(words[1:], partial)
    elif program in ("python", "python3"):
        check_python(words[1:])
    elif program == "make":
        text = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", text, re.MULTILINE) for target in words[1:])
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests/"))
    elif program in ("pip", "pip3"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        named = re.findall(r"[\w-]+", "".join(re.findall(r"\.\[(.*?)\]", " ".join(words))))
        assert set(named) <= extras["optional-dependencies"].keys()
    elif words[0].startswith("deploy/"):
        assert (ROOT / words[0]).is_file()
    else:
        assert program in {".", "cat", "cp", "export", "kubectl", "openssl", "sbatch", "apt-get"}


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), f"there is no module {words[1]}"
    elif words[0] != "-c":
        assert (ROOT / words[0]).is_file()


def check_volflow(words: list[str], partial: bool) -> None:
    """Parse a command line with click: the verb and its options exist, values have their type."""
    context = click.Context(main)
    words = words[next((at for at, word in enumerate(words) if word[0] != "-"), len(words)) :]
    if not words:  # options of `volflow` itself
        return
    verb, *rest = words
    command = main.get_command(context, verb)
    assert command is not None, f"there is no verb {verb}"
    parser = command.make_parser(click.Context(command, info_name=verb))
    values, _, _ = parser.parse_args(list(rest))
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(value, str | tuple | list) and not isinstance(parameter.type, click.Path):
            parameter.type_cast_value(click.Context(command), value)
        if parameter.required and not partial:
            assert isinstance(value, str | tuple | list), f"{verb}: {parameter.name} is missing"
            assert value != (), f"{verb}: {parameter.name} is missing"
    check_overrides(verb, rest)


def check_overrides(verb: str, words: list[str]) -> None:
    """Keys after `--set` exist, where the file is a bundled one."""
    overrides = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--set"]
    name = next((word for word in words if not word.startswith("-")), "")
    if not overrides:
        return
    if verb in ("run", "plan") and name in bundled("pipelines"):
        draft = read(find_bundled(name, "pipelines", "pipeline"), overrides)
        for spec in draft.checked().steps:
            if "model" not in spec.with_:  # looks for the file of the network
                check_step(spec)
    elif verb in ("train", "pretrain"):
        model = Training if verb == "train" else Pretraining
        if verb == "train" and name in bundled("pipelines/train"):
            model = kind_of(bundled("pipelines/train")[name]).model
        keys = [text.partition("=")[0].partition(".")[0] for text in overrides]
        assert set(keys) <= model.model_fields.keys()


@pytest.mark.parametrize(
    "line",
    [
        "volflow rum segment",
        "volflow run segment --clutser local",
        "volflow run segment --set steps.agglomerate.treshold=1",
        "volflow run segment --workers none",
        "volflow run",
        "volflow train fib25 --set stpes=3",
        "python -m benchmarks.no_such_benchmark",
        "make no_such_target",
        "pip install '.[no_such_extra]'",
    ],
)
def test_commands_that_do_not_exist_are_detected(line: str) -> None:
    (words,) = shell_commands(line)
    with pytest.raises((AssertionError, ValueError, click.ClickException)):
        check_command(words)
