"""What Vendure is asked, as GraphQL documents of its Admin API, and which of them its user must be let do.

`%s` stands for the name of a custom field, or for nothing: a field that the server lacks is a fault before anything is
sent there.
"""

from collections.abc import Mapping

CHANNEL = "query { activeChannel { token defaultLanguageCode } }"

PRODUCT = """query ($id: ID!) {
  activeChannel { token }
  product(id: $id) { id featuredAsset { id } assets { id } %s }
}"""
FIELD = "query { products(options: { take: 0 }) { items { customFields { %s } } } }"
VARIANT = "query ($id: ID!) { productVariant(id: $id) { id product { id } featuredAsset { id } assets { id } } }"

ASSET = "query ($id: ID!) { asset(id: $id) { id } }"
# The oldest first: whoever looks finds the same one.
ASSETS = "query ($tag: String!) { assets(options: { tags: [$tag], take: 1, sort: { id: ASC } }) { items { id } } }"
CREATE = """mutation ($input: [CreateAssetInput!]!) {
  createAssets(input: $input) { __typename ... on Asset { id } ... on ErrorResult { errorCode message } }
}"""

ARRANGE = """mutation ($id: ID!, $assets: [ID!]!, $featured: ID) {
  updateProduct(input: { id: $id, assetIds: $assets, featuredAssetId: $featured }) { id }
}"""
ARRANGE_VARIANT = """mutation ($id: ID!, $assets: [ID!]!, $featured: ID) {
  updateProductVariants(input: [{ id: $id, assetIds: $assets, featuredAssetId: $featured }]) { id }
}"""
REMEMBER = """mutation ($id: ID!, $job: String!) {
  updateProduct(input: { id: $id, customFields: { %s: $job } }) { id }
}"""

# What a delivery needs, by the permissions of which one is enough; each changes nothing, for it is given nothing.
PERMISSIONS: Mapping[str, str] = {
    "ReadCatalog or ReadProduct": "query { products(options: { take: 0 }) { totalItems } }",
    "ReadCatalog or ReadAsset": "query { assets(options: { take: 0 }) { totalItems } }",
    "CreateCatalog or CreateAsset": "mutation { createAssets(input: []) { __typename } }",
    "UpdateCatalog or UpdateProduct": "mutation { updateProducts(input: []) { id } }",
}
