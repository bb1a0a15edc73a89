"""Runtime environments: variables, directories, modules, and what cannot be built."""

import os
from pathlib import Path
from typing import Any

import pytest

import zactor
from zactor.exceptions import RuntimeEnvSetupError, ZactorError

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(40)]


@zactor.remote
class Looker:
    def variable(self, name: str) -> Any:
        return os.environ.get(name)

    def directory(self) -> str:
        return os.getcwd()

    def load(self, name: str) -> Any:
        return __import__(name).VALUE


@zactor.remote
def variable(name: str) -> Any:
    return os.environ.get(name)


@zactor.remote
def load(name: str) -> Any:
    return __import__(name).VALUE


def test_variables_of_a_task_and_an_actor() -> None:
    env = {"env_vars": {"COLOUR": "green"}}
    assert zactor.get(variable.options(runtime_env=env).remote("COLOUR")) == "green"
    assert zactor.get(variable.remote("COLOUR")) is None
    actor = Looker.options(runtime_env=env).remote()
    assert zactor.get(actor.variable.remote("COLOUR")) == "green"


def test_a_working_directory_is_current_and_importable(tmp_path: Path) -> None:
    (tmp_path / "in_directory.py").write_text("VALUE = 7\n")
    actor = Looker.options(runtime_env={"working_dir": str(tmp_path)}).remote()
    assert zactor.get(actor.directory.remote()) == str(tmp_path)
    assert zactor.get(actor.load.remote("in_directory")) == 7


def test_a_change_to_a_file_is_seen_by_workers_that_start_later(tmp_path: Path) -> None:
    import zactor.api.environments as environments

    source = tmp_path / "versioned.py"
    env = {"working_dir": str(tmp_path)}
    found = []
    for version in (1, 22):
        source.write_text(f"VALUE = {version}\n")
        environments._seen.clear()
        found.append(zactor.get(load.options(runtime_env=env).remote("versioned")))
    assert found == [1, 22]


def test_packages_and_modules(tmp_path: Path) -> None:
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 'package'\n")
    (tmp_path / "a_module.py").write_text("VALUE = 'module'\n")
    env = {"py_modules": [str(package), tmp_path / "a_module.py"]}
    actor = Looker.options(runtime_env=env).remote()
    assert zactor.get(actor.load.remote("a_package")) == "package"
    assert zactor.get(actor.load.remote("a_module")) == "module"


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(RuntimeEnvSetupError):
        zactor.get(variable.options(runtime_env={"working_dir": "/nowhere/at/all"}).remote("X"))


def test_a_module_that_cannot_be_preloaded() -> None:
    env = {"preload": ["no_such_module_at_all"]}
    with pytest.raises(RuntimeEnvSetupError, match="no_such_module_at_all"):
        zactor.get(variable.options(runtime_env=env).remote("X"), timeout=20)
    with pytest.raises(ZactorError, match="no_such_module_at_all"):
        zactor.get(Looker.options(runtime_env=env).remote().directory.remote(), timeout=20)


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"env_vars": {"A": 1}}, TypeError),
        ({"py_modules": "path"}, TypeError),
        ({"pip": ["x"]}, ValueError),
        ({"working_dir": 5}, TypeError),
        ({"working_dir": "s3://bucket/x.zip"}, ValueError),
    ],
)
def test_environments_that_make_no_sense(env: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        variable.options(runtime_env=env).remote("X")


def test_children_inherit_the_environment_and_add_to_it() -> None:
    @zactor.remote
    def parent() -> Any:
        child = variable.options(runtime_env={"env_vars": {"INNER": "b"}})
        return zactor.get(
            [variable.remote("OUTER"), child.remote("OUTER"), child.remote("INNER")]
        )

    env = {"env_vars": {"OUTER": "a"}}
    assert zactor.get(parent.options(runtime_env=env).remote()) == ["a", "a", "b"]


def test_children_find_the_modules_of_their_parents(tmp_path: Path) -> None:
    package = tmp_path / "deep_package"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 3\n")

    @zactor.remote
    def parent() -> Any:
        child = load.options(runtime_env={"env_vars": {"INNER": "b"}})
        return zactor.get([load.remote("deep_package"), child.remote("deep_package")])

    env = {"py_modules": [str(package)]}
    assert zactor.get(parent.options(runtime_env=env).remote()) == [3, 3]
