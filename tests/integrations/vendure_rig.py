"""A real Vendure server for the tests, and what its owner sees and does there: never by our own client."""

import json
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests import node_tools
from tests.integrations.node import environment
from tests.integrations.software import SOFTWARE

PROGRAM = Path(__file__).with_name("vendure") / "server.cjs"
MOST_BYTES = 600_000
# As Vendure's document "Roles" has them for this.
PERMISSIONS = ("ReadCatalog", "UpdateCatalog", "CreateAsset", "ReadAsset")


@dataclass(frozen=True)
class Shop:
    """The shop, seen by its owner."""

    url: str
    token: str

    @property
    def admin_api(self) -> str:
        return f"{self.url}/admin-api"

    def __call__(self, document: str, **variables: Any) -> Any:
        """The answer's `data`."""
        answer = requests.post(
            self.admin_api,
            json={"query": document, "variables": variables},
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )
        body = answer.json()
        assert "errors" not in body, body
        return body["data"]

    def key(self, *permissions: str) -> str:
        """A new API key, of a role that may do just this."""
        code = secrets.token_hex(4)
        role = self(
            "mutation ($code: String!, $permissions: [Permission!]!) {"
            " createRole(input: { code: $code, description: $code, permissions: $permissions }) { id } }",
            code=code,
            permissions=permissions or PERMISSIONS,
        )["createRole"]["id"]
        made = self(
            "mutation ($role: ID!, $name: String!) { createApiKey(input: {"
            " roleIds: [$role], translations: [{ languageCode: en, name: $name }] }) { apiKey } }",
            role=role,
            name=code,
        )["createApiKey"]
        return str(made["apiKey"])

    def forget_keys(self) -> None:
        keys = self("query { apiKeys { items { id } } }")["apiKeys"]["items"]
        self("mutation ($ids: [ID!]!) { deleteApiKeys(ids: $ids) { result } }", ids=[key["id"] for key in keys])

    def product(self, *pictures: str) -> str:
        """A new product, with these pictures, of which the first is its main one."""
        slug = secrets.token_hex(4)
        made = self(
            "mutation ($slug: String!, $assets: [ID!], $featured: ID) { createProduct(input: {"
            " assetIds: $assets, featuredAssetId: $featured,"
            ' translations: [{ languageCode: en, name: "Lamp", slug: $slug, description: "" }] }) { id } }',
            slug=slug,
            assets=pictures,
            featured=pictures[0] if pictures else None,
        )
        return str(made["createProduct"]["id"])

    def variant(self, product: str) -> str:
        made = self(
            "mutation ($product: ID!, $sku: String!) { createProductVariants(input: [{ productId: $product, sku: $sku,"
            ' price: 100, translations: [{ languageCode: en, name: "Large" }] }]) { id } }',
            product=product,
            sku=secrets.token_hex(4),
        )
        return str(made["createProductVariants"][0]["id"])

    def picture(self, photo: Path) -> str:
        """A picture of the shop's own."""
        document = "mutation ($input: [CreateAssetInput!]!) { createAssets(input: $input) { ... on Asset { id } } }"
        answer = requests.post(
            self.admin_api,
            data={
                "operations": json.dumps({"query": document, "variables": {"input": [{"file": None}]}}),
                "map": '{"0": ["variables.input.0.file"]}',
            },
            files={"0": (photo.name, photo.read_bytes(), "image/jpeg")},
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )
        return str(answer.json()["data"]["createAssets"][0]["id"])

    def seen(self, product: str) -> dict[str, Any]:
        found: dict[str, Any] = self(
            "query ($id: ID!) { product(id: $id) {"
            " featuredAsset { id name source } assets { id name source tags { value } }"
            " customFields { wirephotoJob }"
            " variants { id featuredAsset { id } assets { id } } } }",
            id=product,
        )["product"]
        return found

    def gallery(self, product: str) -> list[str]:
        return [asset["id"] for asset in self.seen(product)["assets"]]

    def made_by_us(self) -> Sequence[str]:
        """All assets that carry a name of ours, on a product or not."""
        found = self("query { assets(options: { take: 1000 }) { items { id tags { value } } } }")["assets"]["items"]
        return [asset["id"] for asset in found if any(tag["value"].startswith("wirephoto-") for tag in asset["tags"])]

    def delete_picture(self, asset: str) -> None:
        told = self("mutation ($id: ID!) { deleteAsset(input: { assetId: $id, force: true }) { result } }", id=asset)
        assert told["deleteAsset"]["result"] == "DELETED"


def downloaded(asset: dict[str, Any]) -> bytes:
    """As a customer's browser gets it, in its original form."""
    answer = requests.get(asset["source"], timeout=30)
    assert answer.status_code == 200
    return answer.content


@contextmanager
def vendure(folder: Path) -> Iterator[Shop]:
    SOFTWARE["vendure"]()
    password = secrets.token_hex(8)
    command = [node_tools.program("node"), str(PROGRAM), str(folder), password, str(MOST_BYTES)]
    with subprocess.Popen(
        command, env=environment("vendure"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            assert line, "Vendure did not start"
            url = f"http://127.0.0.1:{json.loads(line)['port']}"
            yield _furnished(url, password)
        finally:
            server.stdin.close()
            server.stdout.close()


def _furnished(url: str, password: str) -> Shop:
    """With what a price needs: a zone and a tax category."""
    document = f'mutation {{ login(username: "superadmin", password: "{password}") {{ __typename }} }}'
    answer = requests.post(f"{url}/admin-api", json={"query": document}, timeout=30)
    shop = Shop(url, answer.headers["vendure-auth-token"])
    zone = shop('mutation { createZone(input: { name: "Here", memberIds: [] }) { id } }')["createZone"]["id"]
    shop(
        "mutation ($zone: ID!) { updateChannel(input: { id: 1, defaultTaxZoneId: $zone,"
        " defaultShippingZoneId: $zone }) { __typename } }",
        zone=zone,
    )
    shop('mutation { createTaxCategory(input: { name: "Usual" }) { id } }')
    return shop
