"""What a release is: what the archives hold, and that they work where nothing else is installed."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest

import sharpzo

ROOT = Path(__file__).parents[1]
# Everything in the wheel that is no code, so that no photo or note gets into it unseen.
ASSETS = [
    "data_sets.json",
    "demo/README.md",
    "demo/photos.safetensors",
    "demo/examples/*.png",
    "published/few_shot.json",
    "clip/LICENSE",
    "clip/merges.txt.gz",
    "export/site/index.html",
    "export/site/page.js",
    "ui/page.*",
    "model/README.md",
    "model/config.json",
    "model/metrics.json",
    "model/model-0000?-of-00002.safetensors",
    "model/model.safetensors.index.json",
    "model/preprocessor_config.json",
    "model/special_tokens_map.json",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "export/classify.py.txt",
]


@pytest.fixture(scope="module")
def extras():
    spec = importlib.util.spec_from_file_location("extras", ROOT / "tools" / "extras.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(kind: str) -> set[str]:
    """The files of the wheel or the source distribution, which is not packed for that."""
    builders = pytest.importorskip(f"hatchling.builders.{kind}")
    (builder,) = [one for name, one in vars(builders).items() if name == f"{kind.title()}Builder"]
    found = builder(str(ROOT)).recurse_included_files()
    return {file.distribution_path.replace("\\", "/") for file in found}


def test_the_wheel_holds_the_package_alone():
    found = files("wheel")
    expected = {f"sharpzo/{path.relative_to(ROOT / 'src' / 'sharpzo').as_posix()}"
                for path in (ROOT / "src" / "sharpzo").rglob("*.py")}  # fmt: skip
    others = {name for name in found if not name.endswith(".py")}
    assert found - others == expected
    assets = {Path(name) for name in others if name.startswith("sharpzo/assets/")}
    for pattern in ASSETS:
        assert [one for one in assets if one.match(pattern)], pattern
    assert not [one for one in assets if not any(map(one.match, ASSETS))]
    templates = {Path(name).suffix for name in others - {one.as_posix() for one in assets}}
    assert templates == {".html", ".css"}


def test_the_source_distribution_holds_what_building_and_testing_need():
    found = files("sdist")
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "tests/conftest.py"} <= found
    whole = {name for name in found if name.startswith("src/sharpzo/")}
    assert {name.removeprefix("src/") for name in whole} == files("wheel")
    private = re.compile(r"(^|/)(\.venv|\.git|datasets|runs|build|dist|__pycache__)(/|$)")
    assert not [name for name in found if private.search(name)]


def test_the_version_is_the_changelogs():
    """A release that the changelog does not name would be one without notes."""
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heading[1] == sharpzo.__version__


def test_the_metadata_names_version_and_pythons(extras):
    metadata = pytest.importorskip("hatchling.metadata.core")
    manager = pytest.importorskip("hatchling.plugin.manager")
    found = metadata.ProjectMetadata(str(ROOT), manager.PluginManager())
    assert found.version == sharpzo.__version__
    assert str(found.core.requires_python) == ">=3.10"
    versions = [f"Programming Language :: Python :: 3.{n}" for n in range(10, 14)]
    assert set(versions) <= set(found.core.classifiers)


def test_every_extra_has_a_use(extras):
    assert extras.extras() == extras.USES.keys() - {extras.CORE}


def python(version: str) -> str:
    """An interpreter of this version, on the path or pyenv's; skips where there is none."""
    found = [shutil.which(f"python{version}"), sys.executable]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        found += sorted(Path(root, "versions").glob(f"{version}.*/bin/python"))
    ask = "import sys; print(*sys.version_info[:2], sep='.')"
    for one in filter(None, found):
        done = subprocess.run([one, "-c", ask], capture_output=True, text=True)
        if done.stdout.strip() == version:
            return str(one)
    pytest.skip(f"there is no Python {version} here")


def test_callbacks_of_options_work_on_the_oldest_python():
    """There `list[Path]` passes for a class, and Typer ends with a traceback."""
    from sharpzo.cli import options

    hints = get_type_hints(options._load_plugins)
    assert not [hint for hint in hints.values() if get_origin(hint)]


@pytest.fixture(scope="module")
def built(extras, tmp_path_factory):
    """The wheel and the source distribution."""
    pytest.importorskip("hatchling")
    return extras.build(tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_wheel_works_with_the_oldest_and_the_newest_python(extras, built, tmp_path, version):
    said = extras.check(extras.CORE, built[0], tmp_path / "environment", python(version))
    assert said.startswith(f"Python {version},")


@pytest.mark.slow
def test_the_source_distribution_installs_and_works(extras, built, tmp_path):
    extras.check(extras.CORE, built[1], tmp_path / "environment")


@pytest.mark.slow
def test_each_extra_does_what_it_is_for(extras, built, tmp_path):
    failed = {}
    for name in sorted(extras.extras()):
        try:
            extras.check(name, built[0], tmp_path / name)
        except extras.Failed as error:
            failed[name] = str(error)
        shutil.rmtree(tmp_path / name)
    assert not failed
