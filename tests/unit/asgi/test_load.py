"""load_app: every way to name an application, and what each mistake is told."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palfrey.asgi.load import load_app
from palfrey.errors import AppLoadError

APP = "async def app(scope, receive, send):\n    pass\n"
_numbers = itertools.count()

Write = Callable[..., str]


@pytest.fixture(autouse=True)
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test stands in an empty directory; what it imports is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(source) -> a module's name that no other test uses; write(source, "a/b.py") puts it there."""

    def put(source: str, file: str | None = None) -> str:
        name = f"site{next(_numbers)}"
        place = tmp_path / (file.replace("NAME", name) if file else f"{name}.py")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(source)
        return name

    return put


def refusal(spec: str, factory: bool = False, app_dir: str | None = None) -> AppLoadError:
    with pytest.raises(AppLoadError) as caught:
        load_app(spec, factory, app_dir)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 3
    return caught.value


# What is found ------------------------------------------------------------------------------------------------------


def test_module_and_attribute(write: Write) -> None:
    name = write(APP)
    assert load_app(f"{name}:app") is sys.modules[name].app


def test_dotted_attribute(write: Write) -> None:
    name = write("class Site:\n    class inner:\n        async def app(scope, receive, send): pass\n")
    assert load_app(f"{name}:Site.inner.app") is sys.modules[name].Site.inner.app


def test_dotted_module(write: Write) -> None:
    name = write("", "NAME/__init__.py")
    Path(name, "asgi.py").write_text(APP)
    assert load_app(f"{name}.asgi:app").__module__ == f"{name}.asgi"


@pytest.mark.parametrize("attribute", ["app", "application"])
def test_module_alone(write: Write, attribute: str) -> None:
    name = write(APP.replace("app", attribute))
    assert load_app(name).__name__ == attribute  # type: ignore[attr-defined]


def test_module_alone_prefers_app(write: Write) -> None:
    name = write(APP + APP.replace("app", "application"))
    assert load_app(name) is sys.modules[name].app


def test_instances_classes_and_partials_are_callable(write: Write) -> None:
    name = write(
        "import functools\n"
        "class Site:\n    async def __call__(self, scope, receive, send): pass\n"
        "class Endpoint:\n    def __init__(self, scope, receive, send): pass\n    def __await__(self): yield\n"
        "async def four(extra, scope, receive, send): pass\n"
        "site = Site()\npart = functools.partial(four, 1)\nasync def rest(*args): pass\n"
    )
    for attribute in ("site", "part", "Endpoint", "rest"):
        assert callable(load_app(f"{name}:{attribute}"))


def test_factory(write: Write) -> None:
    name = write(APP + "def make(debug=False):\n    return app\n")
    assert load_app(f"{name}:make", factory=True) is sys.modules[name].app


def test_module_alone_with_a_factory(write: Write) -> None:
    name = write("def app():\n    async def made(scope, receive, send): pass\n    return made\n")
    assert load_app(name, factory=True).__name__ == "made"  # type: ignore[attr-defined]


def test_app_dir_is_first_on_the_path_by_its_real_name(write: Write, tmp_path: Path) -> None:
    name = write(APP, "release/NAME.py")
    os.symlink("release", "current")
    load_app(f"{name}:app", app_dir="current")
    assert sys.path[0] == str(tmp_path.resolve() / "release")


def test_the_working_directory_is_first_on_the_path_and_once(write: Write, tmp_path: Path) -> None:
    name = write(APP)
    load_app(f"{name}:app")
    load_app(f"{name}:app")
    assert sys.path[0] == str(tmp_path.resolve())
    assert sys.path.count(sys.path[0]) == 1


def test_a_modules_own_getattr_is_asked(write: Write) -> None:
    name = write(
        "def __getattr__(name):\n"
        "    if name != 'application': raise AttributeError(name)\n"
        "    async def made(scope, receive, send): pass\n"
        "    return made\n"
    )
    assert callable(load_app(name))
    assert f"module '{name}' has no attribute 'nothing'" in str(refusal(f"{name}:nothing"))


def test_a_double_callable(write: Write) -> None:
    name = write("def app(scope):\n    async def instance(receive, send): pass\n    return instance\n")
    assert load_app(f"{name}:app") is sys.modules[name].app


def test_an_interface_that_is_named_is_believed(write: Write) -> None:
    name = write("def app(environ, start_response): pass\n")
    assert load_app(f"{name}:app", interface="asgi2") is sys.modules[name].app
    with pytest.raises(AppLoadError, match="cannot be called"):
        load_app(f"{write('app = 3')}:app", interface="asgi2")


# The module does not exist ------------------------------------------------------------------------------------------


def test_missing_module(tmp_path: Path) -> None:
    error = refusal("nosuchmodule:app")
    assert str(error).startswith(f"there is no module 'nosuchmodule' in {tmp_path.resolve()} or on the import path; ")
    assert error.detail == ""


def test_missing_module_names_a_near_miss(write: Write) -> None:
    name = write(APP)
    assert f"did you mean `{name}`?" in str(refusal(f"{name}x:app"))


def test_missing_module_in_src(write: Write) -> None:
    name = write(APP, "src/NAME.py")
    assert f"src/{name}.py exists: add `--app-dir src`" in str(refusal(f"{name}:app"))


def test_missing_part_of_a_dotted_module(write: Write) -> None:
    name = write("", "NAME/__init__.py")
    message = str(refusal(f"{name}.web.asgi:app"))
    assert message.startswith(f"there is no module '{name}.web' in the package '{name}' (for '{name}.web.asgi')")


def test_module_below_a_single_module(write: Write) -> None:
    name = write(APP)
    assert f"'{name}' is no package; for its attribute write `{name}:app`" in str(refusal(f"{name}.app"))


def test_missing_app_dir() -> None:
    assert "'nowhere' (app_dir) does not exist" in str(refusal("main:app", app_dir="nowhere"))


# Its import failed --------------------------------------------------------------------------------------------------


def test_import_that_raises(write: Write, tmp_path: Path) -> None:
    name = write("def connect():\n    raise ValueError('no database\\nat all')\nconnect()\n")
    error = refusal(f"{name}:app")
    assert str(error) == f"importing '{name}' failed: ValueError: no database"
    assert [line for line in error.detail.splitlines() if line.strip(" ~^")] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path.resolve()}/{name}.py", line 3, in <module>',
        "    connect()",
        f'  File "{tmp_path.resolve()}/{name}.py", line 2, in connect',
        "    raise ValueError('no database\\nat all')",
        "ValueError: no database",
        "at all",
    ]


def test_import_of_a_missing_dependency_is_not_a_missing_module(write: Write) -> None:
    name = write("import nosuchdependency\n")
    error = refusal(f"{name}:app")
    assert str(error).startswith(f"importing '{name}' failed: ModuleNotFoundError: No module named 'nosuchdependency'")
    assert f"is it installed in {sys.prefix}?" in str(error)
    assert "import nosuchdependency" in error.detail


def test_a_package_that_imports_its_own_missing_part(write: Write) -> None:
    name = write("from importlib import import_module\nimport_module(__name__ + '.asgi')\n", "NAME/__init__.py")
    error = refusal(f"{name}.asgi:app")
    assert str(error).startswith(f"importing '{name}.asgi' failed: ModuleNotFoundError")
    assert "import_module(__name__" in error.detail


def test_syntax_error(write: Write) -> None:
    name = write("def app(:\n")
    error = refusal(f"{name}:app")
    assert str(error).startswith(f"importing '{name}' failed: SyntaxError: ")
    assert "def app(:" in error.detail
    assert "load.py" not in error.detail


def test_import_that_exits(write: Write) -> None:
    name = write("import sys\nsys.exit('bye')\n")
    error = refusal(f"{name}:app")
    assert str(error).startswith(f"importing '{name}' failed: SystemExit: bye (it ends the process; ")
    assert "sys.exit('bye')" in error.detail


def test_causes_keep_their_tracebacks_without_our_frames(write: Write) -> None:
    name = write(
        "try:\n    import nosuchdependency\nexcept ImportError as error:\n    raise RuntimeError('x') from error\n"
    )
    detail = refusal(f"{name}:app").detail
    assert detail.count("Traceback (most recent call last)") == 2
    assert "direct cause" in detail
    assert "importlib" not in detail
    assert "palfrey/asgi" not in detail


def test_causes_lose_the_frames_of_importlib(write: Write) -> None:
    name = write(
        "from importlib import import_module\n"
        "try:\n    import_module('nosuchdependency')\n"
        "except ImportError as error:\n    raise RuntimeError('x') from error\n"
    )
    assert "<frozen importlib" not in refusal(f"{name}:app").detail


def test_an_interrupt_goes_through(write: Write) -> None:
    name = write("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_app(f"{name}:app")


# The attribute is missing -------------------------------------------------------------------------------------------


def test_missing_attribute_names_the_applications(write: Write) -> None:
    name = write(
        APP.replace("app", "site") + "class A:\n    async def __call__(self, scope, receive, send): pass\nb = A()\n"
    )
    assert str(refusal(f"{name}:app")) == (
        f"module '{name}' has no attribute 'app'; it has the ASGI applications `{name}:b`, `{name}:site`"
    )


def test_module_alone_without_app(write: Write) -> None:
    name = write(APP.replace("app", "site"))
    assert (
        str(refusal(name))
        == f"module '{name}' has no 'app' nor 'application'; it has the ASGI application `{name}:site`"
    )


def test_missing_attribute_names_a_near_miss(write: Write) -> None:
    name = write("aplication = 1\n")
    assert f"did you mean `{name}:aplication`?" in str(refusal(f"{name}:application"))


def test_missing_attribute_names_a_factory(write: Write) -> None:
    name = write("def create_app(): pass\n")
    assert f"it has `{name}:create_app`, to be called with --factory" in str(refusal(f"{name}:x"))


def test_missing_attribute_names_what_there_is(write: Write) -> None:
    name = write("import os\n" + "".join(f"v{number} = 1\n" for number in range(10)))
    assert str(refusal(f"{name}:qqq")).endswith(
        "it has `v0`, `v1`, `v2`, `v3`, `v4`, `v5`, `v6`, `v7` and 2 more",
    )
    assert str(refusal(f"{write('')}:app")).endswith("it has no public names at all")


def test_missing_part_of_a_dotted_attribute(write: Write) -> None:
    name = write("class site:\n    async def main(scope, receive, send): pass\n")
    assert f"{name}:site has no attribute 'app'; " in str(refusal(f"{name}:site.app"))


def test_a_submodule_named_as_an_attribute(write: Write) -> None:
    name = write("", "NAME/__init__.py")
    Path(name, "asgi.py").write_text(APP)
    assert f"write `{name}.asgi:app`" in str(refusal(f"{name}:asgi"))
    load_app(f"{name}.asgi:app")
    assert f"is the module '{name}.asgi', which cannot be called; write `{name}.asgi:app`" in str(
        refusal(f"{name}:asgi")
    )


def test_a_directory_without_init(write: Write) -> None:
    name = write(APP, "NAME/main.py")
    assert "a directory without an __init__.py" in str(refusal(f"{name}:app"))


def test_an_attribute_that_raises(write: Write) -> None:
    name = write("class Site:\n    @property\n    def app(self): return self.gone\nsite = Site()\n")
    error = refusal(f"{name}:site.app")
    assert str(error).startswith(f"reading {name}:site.app failed: AttributeError: ")
    assert "return self.gone" in error.detail


# Slips in the import string -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("main.py", "a file, not a module; write `main`"),
        ("main.py:app", "a file, not a module; write `main:app`"),
        ("./main.py:app", "a file, not a module; write `main:app`"),
        ("src/main:app", "a path, not a module; write `--app-dir src main:app`"),
        ("a/b/main.py:app", "a path, not a module; write `--app-dir a/b main:app`"),
        ("main:create_app()", "write `main:create_app --factory`"),
        ("", "names no module"),
        (":app", "names no module"),
        (".main:app", "names no module"),
        ("main..x:app", "names no module"),
        ("main:", "names no attribute; write `module:attribute`, such as `main:app`"),
        ("main:a:b", "names no attribute"),
        ("main:a..b", "names no attribute"),
    ],
)
def test_slips(spec: str, advice: str) -> None:
    assert advice in str(refusal(spec))


# What cannot be served ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("app = 'text'", "is a str, which cannot be called"),
        ("app = None", "is None, which cannot be called"),
        ("app = 3", "is an int, which cannot be called"),
        ("def app(): pass", "is a function without arguments; did you mean `NAME:app --factory`?"),
        (
            "async def app(environ, start_response): pass",
            "as a WSGI application does (environ, start_response), but is",
        ),
        ("class app:\n    def __init__(self, a, b): pass", "say so with --interface wsgi"),
        ("class app: pass", "is a class; name an instance of it, or add --factory"),
        ("async def app(scope): pass", "cannot be called with (scope, receive, send), as ASGI 3 does: it is (scope)"),
        (
            "def app(a, b, c, d): pass",
            "cannot be called with (scope, receive, send), as ASGI 3 does: it is (a, b, c, d)",
        ),
    ],
)
def test_not_an_application(write: Write, source: str, message: str) -> None:
    name = write(source + "\n")
    error = refusal(f"{name}:app")
    assert str(error).startswith(f"{name}:app ")
    assert message.replace("NAME", name) in str(error)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("make = 3", "NAME:make is no factory: an int cannot be called"),
        ("def make(settings): pass", "wants arguments: make(settings); wrap it"),
        ("async def make(scope, receive, send): pass", "looks like the application itself, leave --factory out"),
        ("def make(): return None", "NAME:make() returned None, which cannot be called"),
        ("async def make(): pass", "is `async def` and would have to be awaited"),
        ("def make():\n    async def app(a, b): pass\n    return app", "NAME:make() takes two arguments"),
    ],
)
def test_not_a_factory(write: Write, source: str, message: str) -> None:
    name = write(source + "\n")
    assert message.replace("NAME", name) in str(refusal(f"{name}:make", factory=True))


@pytest.mark.parametrize("statement", ["raise TypeError('inside')", "raise SystemExit('inside')"])
def test_a_factory_that_raises(write: Write, statement: str) -> None:
    name = write(f"def make():\n    {statement}\n")
    error = refusal(f"{name}:make", factory=True)
    assert str(error).startswith(f"the factory {name}:make failed: ")
    assert statement in error.detail
    assert "load.py" not in error.detail
