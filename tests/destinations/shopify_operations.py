"""What the stand-in for Shopify holds, and what each of its operations does with it."""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLError

SCOPES = ("read_products", "write_products", "write_files")
# Pictures, videos and models of one product.
MOST_MEDIA = 250

Json = dict[str, Any]


@dataclass
class File:
    id: str
    name: str
    alt: str | None
    body: bytes
    status: str = "PROCESSING"
    looks: int = 0  # how often it is still found unready
    fails: str | None = None  # with what it will be FAILED
    unseen: int = 0  # for how many searches it is not in the index yet
    kind: str = "MediaImage"


@dataclass
class Product:
    media: list[str] = field(default_factory=list)
    metafields: dict[str, str] = field(default_factory=dict)


@dataclass
class Staged:
    given: Json
    body: bytes | None = None


@dataclass
class Moving:
    product: str
    moves: list[Json]
    looks: int


class State:
    """What the shop holds, open to tests. `looks`: how many times a new file or job is found unfinished."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.products: dict[str, Product] = {}
        self.variants: dict[str, tuple[str, list[str]]] = {}
        self.files: dict[str, File] = {}
        self.scopes: tuple[str, ...] = SCOPES
        self.looks = 1
        self.unseen = 0
        self.fails: list[str | None] = []
        self.most_media = MOST_MEDIA
        self.drops = False  # takes references to products, and forgets them
        self.filterless = False  # a search that passes over its filter
        self.staged: dict[str, Staged] = {}
        self.jobs: dict[str, Moving] = {}
        self.url = ""
        self._number = 1000

    def product(self, number: int, *pictures: str, videos: Iterable[str] = ()) -> str:
        """A product with these pictures on it, READY each, and after them these videos."""
        name = f"gid://shopify/Product/{number}"
        self.products[name] = Product([self.file(picture).id for picture in pictures])
        self.products[name].media += [self.file(video, "Video").id for video in videos]
        return name

    def variant(self, number: int, product: str, *media: str) -> str:
        name = f"gid://shopify/ProductVariant/{number}"
        self.variants[name] = (product, list(media))
        return name

    def file(self, name: str, kind: str = "MediaImage") -> File:
        file = File(self.gid(kind), name, None, b"", status="READY", kind=kind)
        self.files[file.id] = file
        return file

    def names(self, product: str) -> list[str]:
        """The names of the product's media, in their order."""
        return [self.files[media].name for media in self.products[product].media]

    @property
    def ours(self) -> list[File]:
        return [file for file in self.files.values() if file.name.startswith("wirephoto-")]

    def gid(self, kind: str) -> str:
        self._number += 1
        return f"gid://shopify/{kind}/{self._number}"

    def allow(self, *scopes: str) -> None:
        if not set(scopes) & set(self.scopes):
            raise GraphQLError(
                "Access denied.", extensions={"code": "ACCESS_DENIED", "requiredAccess": f"`{scopes[0]}` access scope."}
            )

    def looked_at(self, file: File) -> Json:
        """A file as it is told; with each look it comes closer to its end."""
        if file.status == "PROCESSING":
            if file.looks <= 0:
                file.status = "FAILED" if file.fails else "READY"
            file.looks -= 1
        errors = (
            [{"code": file.fails, "message": "It did not work.", "details": None}] if file.status == "FAILED" else []
        )
        told: Json = {
            "__typename": file.kind,
            "id": file.id,
            "alt": file.alt,
            "fileStatus": file.status,
            "status": file.status,
            "fileErrors": errors,
            "mediaContentType": "VIDEO" if file.kind == "Video" else "IMAGE",
        }
        if file.status == "READY":
            told["image"] = {"url": f"https://cdn.shopify.com/s/files/1/7/files/{file.name}?v=17"}
        return told


class Reads:
    NAMES = ("shop", "currentAppInstallation", "node", "product", "productVariant", "files", "job")

    def __init__(self, shop: State) -> None:
        self._shop = shop

    def shop(self, _: Any) -> Json:
        return {"id": "gid://shopify/Shop/1", "name": "Lamps"}

    def currentAppInstallation(self, _: Any) -> Json:  # noqa: N802 - Shopify's name
        scopes = [{"handle": handle, "description": ""} for handle in self._shop.scopes]
        return {"id": "gid://shopify/AppInstallation/1", "accessScopes": scopes}

    def node(self, _: Any, id: str) -> Json | None:  # noqa: A002
        self._shop.allow("read_products", "read_files", "write_files")
        file = self._shop.files.get(id)
        return None if file is None else self._shop.looked_at(file)

    def product(self, _: Any, id: str) -> Json | None:  # noqa: A002
        self._shop.allow("read_products", "write_products")
        held = self._shop.products.get(id)
        return None if held is None else {"id": id, "media": self._media(held.media)}

    def productVariant(self, _: Any, id: str) -> Json | None:  # noqa: A002, N802
        self._shop.allow("read_products", "write_products")
        if id not in self._shop.variants:
            return None
        product, media = self._shop.variants[id]
        return {"id": id, "product": {"id": product, "media": None}, "media": self._media(media)}

    def files(self, _: Any, first: int, query: str, after: str | None = None, **__: Any) -> Json:
        self._shop.allow("read_files", "write_files")
        assert after is None
        wanted = re.fullmatch(r'filename:"([^"]+)"', query)
        if wanted is None:
            self._shop.violations.append(f"a search for {query}")
        found = []
        for file in reversed(self._shop.files.values()):
            if wanted is not None and file.name == wanted[1]:
                file.unseen -= 1
                if file.unseen < 0:
                    found.append(file)
            elif self._shop.filterless:
                found.append(file)
        return {"nodes": [self._shop.looked_at(file) for file in found[:first]], "pageInfo": {"hasNextPage": False}}

    def job(self, _: Any, id: str) -> Json | None:  # noqa: A002
        return Writes(self._shop).moved(id)

    def _media(self, media: list[str]) -> Any:
        def page(_: Any, first: int, after: str | None = None, **__: Any) -> Json:
            start = int(after or 0)
            nodes = [self._shop.looked_at(self._shop.files[name]) for name in media[start : start + first]]
            more = start + first < len(media)
            return {"nodes": nodes, "pageInfo": {"hasNextPage": more, "endCursor": str(start + first)}}

        return page


def _no(code: str, message: str, at: str = "files") -> Json:
    return {"code": code, "field": [at, "0"], "message": message}


class Writes:
    NAMES = (
        *("stagedUploadsCreate", "fileCreate", "fileUpdate", "fileDelete", "productReorderMedia"),
        *("productVariantAppendMedia", "productVariantDetachMedia", "metafieldsSet"),
    )

    def __init__(self, shop: State) -> None:
        self._shop = shop

    def stagedUploadsCreate(self, _: Any, input: list[Json]) -> Json:  # noqa: A002, N802
        self._shop.allow("write_files", "write_images")
        targets = []
        for given in input:
            key = secrets.token_hex(8)
            self._shop.staged[key] = Staged(given)
            place = f"{self._shop.url}/staged/{key}/{given['filename']}"
            parameters = [
                {"name": "content_type", "value": given["mimeType"]},
                {"name": "acl", "value": "private"},
            ]
            url = f"{place}?X-Goog-Signature=signed-{key}"
            targets.append({"url": url, "resourceUrl": place, "parameters": parameters})
        return {"stagedTargets": targets, "userErrors": []}

    def fileCreate(self, _: Any, files: list[Json]) -> Json:  # noqa: N802
        self._shop.allow("write_files", "write_images")
        (given,) = files
        fault = self._unfit(given)
        if fault is not None:
            return {"files": [], "userErrors": [fault]}
        key = given["originalSource"].split("/")[-2]
        body = self._shop.staged[key].body
        file = File(self._shop.gid("MediaImage"), given["filename"], given.get("alt"), body or b"")
        file.looks, file.unseen = self._shop.looks, self._shop.unseen
        file.fails = "IMAGE_DOWNLOAD_FAILURE" if body is None else None
        if self._shop.fails:
            file.fails = self._shop.fails.pop(0)
        self._shop.files[file.id] = file
        return {"files": [self._shop.looked_at(file)], "userErrors": []}

    def _unfit(self, given: Mapping[str, Any]) -> Json | None:
        source = re.fullmatch(rf"{re.escape(self._shop.url)}/staged/(\w+)/([^/?]+)", given["originalSource"])
        if source is None or source[1] not in self._shop.staged:
            self._shop.violations.append("a file from elsewhere")
            return _no("INVALID_IMAGE_SOURCE_URL", "Image URL is invalid")
        if given["filename"].rpartition(".")[2] != source[2].rpartition(".")[2]:
            return _no("MISMATCHED_FILENAME_AND_ORIGINAL_SOURCE", "Provided filename extension must match")
        if len(given.get("alt") or "") > 512:
            self._shop.violations.append("an alt text that is too long")
            return _no("ALT_VALUE_LIMIT_EXCEEDED", "The alt value exceeds the maximum limit of 512 characters.")
        if given["duplicateResolutionMode"] != "RAISE_ERROR":
            self._shop.violations.append("a duplicate would not have been refused")
        if any(file.name == given["filename"] for file in self._shop.files.values()):
            return _no("FILENAME_ALREADY_EXISTS", "Filename already exists")
        return None

    def fileUpdate(self, _: Any, files: list[Json]) -> Json:  # noqa: N802
        self._shop.allow("write_files", "write_images")
        self._shop.allow("write_products")
        for given in files:
            file = self._shop.files.get(given["id"])
            if file is None:
                return {"files": None, "userErrors": [_no("FILE_DOES_NOT_EXIST", "File does not exist.")]}
            if file.status != "READY":
                return {"files": None, "userErrors": [_no("NON_READY_STATE", "Non-ready files cannot be updated.")]}
            if set(given.get("referencesToAdd") or ()) - set(self._shop.products):
                return {"files": None, "userErrors": [_no("REFERENCE_TARGET_DOES_NOT_EXIST", "Target does not exist.")]}
        for name, held in self._shop.products.items():
            new = [file["id"] for file in files if name in (file.get("referencesToAdd") or ())]
            # Whatever the same call takes off it.
            if new and len({*held.media, *new}) > self._shop.most_media:
                no = _no("PRODUCT_MEDIA_LIMIT_EXCEEDED", "Exceeded the limit of media per product.")
                return {"files": None, "userErrors": [no]}
        for given in files:
            for product in given.get("referencesToAdd") or ():
                media = self._shop.products[product].media
                if given["id"] not in media and not self._shop.drops:
                    media.append(given["id"])
            for product in given.get("referencesToRemove") or ():
                self._shop.products[product].media.remove(given["id"])
                for owner, shown in self._shop.variants.values():
                    if owner == product and given["id"] in shown:
                        shown.remove(given["id"])
        told = [self._shop.looked_at(self._shop.files[given["id"]]) for given in files]
        return {"files": told, "userErrors": []}

    def fileDelete(self, _: Any, fileIds: list[str]) -> Json:  # noqa: N802, N803
        self._shop.allow("write_files", "write_images")
        for name in fileIds:
            if not self._shop.files[name].name.startswith("wirephoto-"):
                self._shop.violations.append("a file of the shop's own was deleted")
            del self._shop.files[name]
            for product in self._shop.products.values():
                product.media = [media for media in product.media if media != name]
        return {"deletedFileIds": fileIds, "userErrors": []}

    def productReorderMedia(self, _: Any, id: str, moves: list[Json]) -> Json:  # noqa: A002, N802
        self._shop.allow("write_products")
        if any(move["id"] not in self._shop.products[id].media for move in moves):
            no = _no("MEDIA_DOES_NOT_EXIST_ON_PRODUCT", "Media does not exist on the given product", "moves")
            return {"job": None, "mediaUserErrors": [no]}
        job = f"gid://shopify/Job/{secrets.token_hex(4)}"
        self._shop.jobs[job] = Moving(id, moves, self._shop.looks)
        return {"job": self.moved(job), "mediaUserErrors": []}

    def moved(self, name: str) -> Json | None:
        """A job as it is told; with each look it comes closer to its end, and does its work there."""
        job = self._shop.jobs.get(name)
        if job is None:
            return None
        if job.looks == 0:
            media = self._shop.products[job.product].media
            for move in job.moves:
                media.remove(move["id"])
                media.insert(int(move["newPosition"]), move["id"])
        job.looks -= 1
        return {"id": name, "done": job.looks < 0}

    def productVariantAppendMedia(self, _: Any, productId: str, variantMedia: list[Json]) -> Json:  # noqa: N802, N803
        return self._variants(productId, variantMedia, append=True)

    def productVariantDetachMedia(self, _: Any, productId: str, variantMedia: list[Json]) -> Json:  # noqa: N802, N803
        return self._variants(productId, variantMedia, append=False)

    def _variants(self, product: str, pairs: list[Json], *, append: bool) -> Json:
        self._shop.allow("write_products")
        (pair,) = pairs
        owner, shown = self._shop.variants[pair["variantId"]]
        (media,) = pair["mediaIds"]
        code = None
        if owner != product:
            code = "PRODUCT_VARIANT_DOES_NOT_EXIST_ON_PRODUCT"
        elif media not in self._shop.products[product].media:
            code = "MEDIA_DOES_NOT_EXIST_ON_PRODUCT"
        elif append and shown:
            code = "PRODUCT_VARIANT_ALREADY_HAS_MEDIA"
        elif not append and media not in shown:
            code = "MEDIA_IS_NOT_ATTACHED_TO_VARIANT"
        if code is not None:
            self._shop.violations.append(code)
            return {"productVariants": None, "userErrors": [_no(code, code.lower(), "variantMedia")]}
        (shown.append if append else shown.remove)(media)
        return {"productVariants": [{"id": pair["variantId"]}], "userErrors": []}

    def metafieldsSet(self, _: Any, metafields: list[Json]) -> Json:  # noqa: N802
        self._shop.allow("write_products")
        (given,) = metafields
        if given["type"] != "single_line_text_field":
            return {"metafields": None, "userErrors": [_no("INVALID_TYPE", "is invalid", "metafields")]}
        name = f"{given['namespace']}.{given['key']}"
        self._shop.products[given["ownerId"]].metafields[name] = given["value"]
        return {"metafields": [{"id": self._shop.gid("Metafield")}], "userErrors": []}
