"""The software that is not ours and that the integrations are run with: one line each, installed in one place.

`python -m tests.integrations.software` installs what is not there yet, and fails with the name of what can't be. Each
is kept beside its lock file, in a folder that git ignores, until the lock file changes.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests import node_tools
from tests.integrations import debian

PACKAGES = Path(__file__).with_name("packages")

# Each tells whether anything had to be done, and raises NotInstalled.
SOFTWARE: Mapping[str, Callable[[], bool]] = {
    "zapier": partial(node_tools.install, PACKAGES / "zapier"),
    "n8n": partial(node_tools.install, PACKAGES / "n8n"),
    "node-red": partial(node_tools.install, PACKAGES / "node-red"),
    "shopify": partial(node_tools.install, PACKAGES / "shopify"),
    # Its SQLite is compiled here, once: a minute or two.
    "vendure": partial(node_tools.install, PACKAGES / "vendure", built=("better-sqlite3",), patience=900),
    "wordpress": partial(debian.install, PACKAGES / "wordpress"),
}


def main() -> None:
    missing = False
    for name, install in SOFTWARE.items():
        try:
            print(f"{name}: {'installed' if install() else 'is there'}", flush=True)
        except node_tools.NotInstalled as why:
            print(f"{name}: CAN'T BE INSTALLED: {why}", file=sys.stderr, flush=True)
            missing = True
    sys.exit(missing)


if __name__ == "__main__":
    main()
