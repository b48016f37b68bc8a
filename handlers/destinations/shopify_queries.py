"""Every question that we ask Shopify's GraphQL Admin, word for word.

The tests hold each to Shopify's own schemas, for all versions that Shopify publishes. What is asked for is used.
"""

_FILE = """
fragment file on File {
  id
  fileStatus
  fileErrors { code message }
  ... on MediaImage { image { url } }
}
"""

SHOP = "query shop { shop { id name } }"

SCOPES = "query scopes { currentAppInstallation { accessScopes { handle } } }"

PRODUCT = """
query product($id: ID!, $after: String) {
  product(id: $id) {
    id
    media(first: 250, after: $after, sortKey: POSITION) {
      nodes { id mediaContentType }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

VARIANT = """
query variant($id: ID!) {
  productVariant(id: $id) {
    id
    product { id }
    media(first: 10) { nodes { id } }
  }
}
"""

FILES = f"""
query files($query: String!) {{
  files(first: 10, query: $query) {{ nodes {{ ...file }} }}
}}
{_FILE}"""

FILE = f"""
query file($id: ID!) {{
  node(id: $id) {{ ...file }}
}}
{_FILE}"""

STAGE = """
mutation stage($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) {
    stagedTargets { url resourceUrl parameters { name value } }
    userErrors { field message }
  }
}
"""

CREATE = f"""
mutation create($files: [FileCreateInput!]!) {{
  fileCreate(files: $files) {{
    files {{ ...file }}
    userErrors {{ code field message }}
  }}
}}
{_FILE}"""

UPDATE = """
mutation update($files: [FileUpdateInput!]!) {
  fileUpdate(files: $files) {
    files { id }
    userErrors { code field message }
  }
}
"""

DELETE = """
mutation delete($fileIds: [ID!]!) {
  fileDelete(fileIds: $fileIds) {
    deletedFileIds
    userErrors { code field message }
  }
}
"""

REORDER = """
mutation reorder($id: ID!, $moves: [MoveInput!]!) {
  productReorderMedia(id: $id, moves: $moves) {
    job { id done }
    mediaUserErrors { code field message }
  }
}
"""

JOB = "query job($id: ID!) { job(id: $id) { id done } }"

SHOW = """
mutation show($productId: ID!, $variantMedia: [ProductVariantAppendMediaInput!]!) {
  productVariantAppendMedia(productId: $productId, variantMedia: $variantMedia) {
    productVariants { id }
    userErrors { code field message }
  }
}
"""

HIDE = """
mutation hide($productId: ID!, $variantMedia: [ProductVariantDetachMediaInput!]!) {
  productVariantDetachMedia(productId: $productId, variantMedia: $variantMedia) {
    productVariants { id }
    userErrors { code field message }
  }
}
"""

REMEMBER = """
mutation remember($metafields: [MetafieldsSetInput!]!) {
  metafieldsSet(metafields: $metafields) {
    metafields { id }
    userErrors { code field message }
  }
}
"""
