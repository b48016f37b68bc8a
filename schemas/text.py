"""Text that people give and the store keeps as it is."""

from typing import Annotated

from pydantic import AfterValidator


def _storable(text: str) -> str:
    if "\0" in text:
        # PostgreSQL's TEXT holds every character but this one.
        raise ValueError("can't hold a NUL character")
    return text


Text = Annotated[str, AfterValidator(_storable)]
