"""Shopify's own schemas judge every question of ours, and run the stand-in that answers them."""

import gzip
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    NoDeprecatedCustomRule,
    build_client_schema,
    parse,
    specified_rules,
    validate,
)

from handlers.destinations import shopify_queries
from schemas.delivery import Outcome
from schemas.shop import ShopifyConfig
from tests import node_tools
from tests.destinations.shopify_rig import METADATA, rigged
from tests.destinations.shopify_shop import VERSION, ShopifyShop, own_schema
from tests.integrations.software import PACKAGES

DOCUMENTS = {name: text for name, text in vars(shopify_queries).items() if re.fullmatch("[A-Z]+", name)}
VERSIONS = ("2025-10", "2026-01", "2026-04", "2026-07", "2026-10")


def _data() -> Path:
    folder = node_tools.installed(PACKAGES / "shopify")
    return folder / "node_modules" / "@shopify" / "dev-mcp" / "dist" / "data"


@lru_cache
def official(version: str) -> GraphQLSchema:
    with gzip.open(_data() / f"admin_{version}.json.gz") as file:
        return build_client_schema(json.load(file)["data"], assume_valid=True)


def test_these_are_the_versions_that_shopify_publishes() -> None:
    there = {path.name.removeprefix("admin_").removesuffix(".json.gz") for path in _data().glob("admin_2*.json.gz")}
    assert sorted(there) == list(VERSIONS)
    assert ShopifyConfig.model_fields["api_version"].default == VERSION
    assert VERSION in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_every_question_of_ours_is_one_by_shopifys_schema_and_asks_for_nothing_deprecated(version: str) -> None:
    assert len(DOCUMENTS) == 15
    for name, text in DOCUMENTS.items():
        faults = validate(official(version), parse(text), [*specified_rules, NoDeprecatedCustomRule])
        assert faults == [], (name, faults)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_in_has_nothing_that_shopify_has_not(version: str) -> None:
    theirs, checked = official(version).type_map, 0
    for name, own in own_schema().type_map.items():
        if name.startswith("__"):
            continue
        there = theirs[name]
        assert type(there) is type(own), name
        if isinstance(own, GraphQLEnumType):
            assert isinstance(there, GraphQLEnumType)
            assert set(own.values) <= set(there.values), name
        elif isinstance(own, GraphQLInputObjectType):
            assert isinstance(there, GraphQLInputObjectType)
            _same_inputs(name, own.fields, there.fields)
        elif not isinstance(own, GraphQLScalarType):
            assert isinstance(own, GraphQLObjectType | GraphQLInterfaceType)
            assert isinstance(there, GraphQLObjectType | GraphQLInterfaceType)
            for field, told in own.fields.items():
                assert str(told.type) == str(there.fields[field].type), (name, field)
                _same_inputs(f"{name}.{field}", told.args, there.fields[field].args)
        checked += 1
    assert checked > 50


def _same_inputs(name: str, own: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The same types and defaults, and nothing that Shopify asks for is missing."""
    for field, told in own.items():
        assert (str(told.type), told.default_value) == (str(theirs[field].type), theirs[field].default_value), name
    assert [field for field in theirs if str(theirs[field].type).endswith("!") and field not in own] == [], name


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["append", "replace", "set_main"])
async def test_a_delivery_goes_through_where_shopifys_own_schema_runs_the_stand_in(version: str, mode: str) -> None:
    shop = ShopifyShop(official(version))
    async with rigged(shop) as shopify:
        product = "gid://shopify/Product/8411"
        shop.variant(5, product, shop.products[product].media[0])
        metadata = METADATA | {"variant_id": "5", "position": "1"}
        # A file that is deleted and uploaded again, then all that a try asks.
        shop.fails = ["IMAGE_DOWNLOAD_FAILURE"]
        first = await shopify.send("coffee", "cat", metadata=metadata, mode=mode, metafield={})
        assert first.outcome is Outcome.RETRY
        second = await shopify.send("coffee", "cat", metadata=metadata, mode=mode, metafield={})
        assert (second.outcome, second.error) == (Outcome.DELIVERED, None)
        assert shop.names(product)[:2] == [file.name for file in shop.ours]
        assert all(check.ok for check in await shopify.check(metadata=metadata))
