"""`wirephoto demo`: what `make demo` runs."""

import asyncio
import sys
from pathlib import Path

import click

from service.commands.codes import Code, example

PHOTOS = Path(__file__).parents[2] / "tests" / "photos"
_PHOTO = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=example("wirephoto demo"))
@click.argument("product", type=_PHOTO, default=PHOTOS / "coffee.jpg", metavar="[PHOTO]")
@click.argument("portrait", type=_PHOTO, default=PHOTOS / "astronaut.jpg", metavar="[PORTRAIT]")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-results"),
    show_default=True,
    help="Where the pictures go.",
)
def demo(product: Path, portrait: Path, results: Path) -> None:
    """Enlarge PHOTO and cut the head out of PORTRAIT at two sandbox vendors, and watch the signed events arrive.

    No account and no key is needed; service, vendors and receiver run on this machine and are gone afterwards.
    """
    from service.demo import Demo

    if not asyncio.run(Demo(product, portrait, results).run()):
        sys.exit(Code.FAILED)
