"""The shape of the repository is a promise to its next reader."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from schemas.event import EventType
from service.accounts import KNOWN
from service.config import PREFIX, SECTIONS, Settings
from service.sandboxes import MAKE
from service.web.routes import ROUTES
from tests.architecture import operations_table

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "handlers", "service")
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST = 400


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def scripts() -> Iterator[Path]:
    """What is written in JavaScript: our apps for others' tools, and what runs them in the tests."""
    for folder in ("handlers/integrations", "tests/integrations", "tests/node"):
        found = (path for ending in ("js", "cjs", "mjs") for path in (ROOT / folder).rglob(f"*.{ending}"))
        yield from (path for path in found if not {"node_modules", ".root"} & set(path.parts))


def test_no_module_is_longer_than_one_sitting() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (*modules(), *scripts())}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


def test_every_module_opens_with_its_place_in_the_story() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.name != "__init__.py" and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    silent += [str(path.relative_to(ROOT)) for path in scripts() if not path.read_text().startswith("//")]
    assert silent == []


def test_packages_re_export_nothing() -> None:
    for path in modules():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) for node in body), path


def test_the_pipeline_names_its_modules_in_reading_order() -> None:
    told = ast.get_docstring(ast.parse((ROOT / "service/pipeline/__init__.py").read_text())) or ""
    steps = re.findall(r"^\d\. `(\w+)`", told, re.MULTILINE)
    assert steps == ["accept", "stage", "submit", "poll", "receive", "conclude", "fetch", "deliver", "retry"]
    present = {path.stem for path in (ROOT / "service/pipeline").glob("*.py")} - {"__init__"}
    assert present == set(re.findall(r"`(\w+)`", told)) - {"fetching"}


def test_sql_stands_beside_its_noun_and_nowhere_else() -> None:
    for path in (ROOT / "service/store").glob("*.sql"):
        assert path.with_suffix(".py").exists(), path
    writers = {
        path.name
        for path in modules()
        if re.search(r'"\s*(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM) ', path.read_text())
    }
    # The ledger of migrations, that all else stands on; what is asked of the server itself; and what copies any table.
    assert writers == {"migrate.py", "postgres.py", "postgres_guard.py", "copying.py"}


def test_nothing_names_a_machine_or_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    forbidden = re.compile(r"(^|[\s\"'=(])/(work|root|farm)/|pypi\.org|pythonhosted|npmjs|deb\.debian\.org")
    this = Path(__file__).relative_to(ROOT).as_posix()
    for name in tracked:
        path = ROOT / name
        if name == this or path.suffix in {".jpg", ".png"} or not path.is_file():
            continue
        found = forbidden.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{name}: {found}"


def test_the_readme_lists_every_setting_and_no_other() -> None:
    told_of = README.split("## Settings")[1].split("\n## ")[0]
    table = "\n".join(line for line in told_of.splitlines() if line.startswith("| "))
    told = set(re.findall(r"`([A-Z<][A-Z0-9_<>]+)`", table)) - {PREFIX, "HOST:PORT"}
    fields = {vendor.upper(): set(part.model_fields) for vendor, part in SECTIONS.items()}
    known = {name.upper() for name in Settings.model_fields} - set(fields)
    known |= {f"{vendor}__{name.upper()}" for vendor, names in fields.items() for name in names}
    spread = {name.replace("<VENDOR>", vendor) for name in told for vendor in fields}
    assert spread == known
    for vendor, part in SECTIONS.items():
        told_default = re.search(rf"^\| `{vendor.upper()}__BASE_URL` \| `([^`]+)` ", table, re.MULTILINE)
        assert told_default is not None
        assert told_default[1] == part.model_fields["base_url"].default
    for name in ("query_path", "credits_path"):
        assert f"| `AILABTOOLS__{name.upper()}` | `{SECTIONS['ailabtools'].model_fields[name].default}` |" in table


def test_the_readmes_table_of_operations_is_the_catalogue() -> None:
    rows = operations_table.operations()
    _, told, _ = operations_table.part_of(README)
    assert told == operations_table.table(rows), "make operations writes it anew"
    assert len({operation.id for operation in rows}) == len(rows) == told.count("\n") - 2


def test_every_vendor_with_settings_can_be_worked_with_and_tried() -> None:
    # Credentials that nobody uses would be passed over in silence.
    assert {known.name for known in KNOWN} == set(SECTIONS) == set(MAKE)


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([\w-]+)", README))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_routes_and_event_types_are_told_once() -> None:
    rows = [(route.method, route.path) for route in ROUTES]
    assert len(rows) == len(set(rows))
    assert len(set(EventType)) == len(EventType)


def test_the_lock_files_pin_what_the_project_asks_for_with_hashes() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~\[; ]", entry)[0].lower() for entry in wanted["dependencies"]}
    extras = {
        re.split(r"[<>=!~\[; ]", entry)[0].lower()
        for extra in ("dev", "postgres", "s3", "speed")
        for entry in wanted["optional-dependencies"][extra]
    }
    for lock, expected in (("requirements.lock", names), ("requirements-dev.lock", names | extras)):
        text = (ROOT / lock).read_text()
        pinned = set(re.findall(r"^([a-z0-9\-]+)==", text, re.MULTILINE))
        assert expected <= pinned
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "index-url" not in text


def test_each_top_level_name_has_exactly_one_owner() -> None:
    owners = packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, [])) <= {"wirephoto"}, owners[package]


@pytest.mark.slow
def test_the_wheel_runs_in_a_fresh_environment(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == set(PACKAGES)
    run(sys.executable, "-m", "venv", "fresh")
    run(
        "fresh/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements.lock")
    )
    run("fresh/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", str(wheel))
    ask = f"import importlib.metadata as m; d = m.packages_distributions(); print([d[n] for n in {PACKAGES!r}])"
    assert run("fresh/bin/python", "-c", ask).strip() == str([["wirephoto"]] * 3)
    assert "serve" in run("fresh/bin/wirephoto", "--help")
