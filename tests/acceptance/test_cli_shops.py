"""Shops on the command line: added by a file or standard input, never with credentials among the arguments."""

import json
from pathlib import Path

from service.commands.codes import Code
from tests.acceptance.command_line import ONE_DATABASE, Service
from tests.ports import free_port

pytestmark = ONE_DATABASE

KEY = "the-shops-own-key"


def config(folder: Path, **changes: object) -> Path:
    path = folder / "lamps.json"
    path.write_text(json.dumps({"shop": f"http://127.0.0.1:{free_port()}/admin-api", "api_key": KEY, **changes}))
    return path


def test_a_shop_is_added_by_a_file_and_listed_without_its_credentials(service: Service, tmp_path: Path) -> None:
    path = config(tmp_path)
    shop = json.loads(path.read_text())["shop"]
    added = service("endpoints", "add", "--kind", "vendure", "--config", path, "--description", "lamps")
    assert added.returncode == 0, added.stderr
    assert f"puts finished pictures onto products of {shop}" in added.stdout
    listed = service("endpoints", "list")
    assert shop in listed.stdout
    assert "vendure" in listed.stdout
    assert KEY not in added.stdout + added.stderr + listed.stdout


def test_a_shop_that_is_not_there_fails_its_test_and_says_where_it_stopped(service: Service, tmp_path: Path) -> None:
    added = service("endpoints", "add", "--kind", "vendure", "--config", config(tmp_path), "--json")
    endpoint = json.loads(added.stdout)["id"]
    tested = service("endpoints", "test", endpoint, "--metadata", "product_id=8411")
    assert tested.returncode == Code.FAILED
    assert tested.stdout.startswith("FAULT credentials: ")
    told = json.loads(service("endpoints", "test", endpoint, "--json").stdout)
    assert [(check["name"], check["ok"]) for check in told["checks"]] == [("credentials", False)]
    assert KEY not in tested.stdout + tested.stderr


def test_faults_of_a_config_are_named_and_its_values_are_not(service: Service, tmp_path: Path) -> None:
    faulty = config(tmp_path, product="{sku}", api_key=None, password=KEY)
    refused = service("endpoints", "add", "--kind", "vendure", "--config", faulty)
    assert refused.returncode == Code.REFUSED
    for field in ("config.product", "config.api_key", "config.password"):
        assert field in refused.stderr
    no_json = tmp_path / "no.json"
    no_json.write_text(KEY)
    spoilt = service("endpoints", "add", "--kind", "vendure", "--config", no_json)
    assert (spoilt.returncode, KEY in spoilt.stderr) == (Code.USAGE, False)
    assert service("endpoints", "add", "--kind", "vendure", "--config", tmp_path / "none").returncode == Code.FILE
    assert service("endpoints", "add", "--kind", "vendure").returncode == Code.REFUSED
    assert service("endpoints", "add").returncode == Code.USAGE
