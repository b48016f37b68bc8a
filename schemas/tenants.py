"""The JSON that goes out of projects and keys: the walls between tenants, and who may do what behind them.

As in `schemas.answers`: plain dicts with a type.
"""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.forms import ApiKey, KeyId, ProjectId, Time, Url, string


class Project(TypedDict):
    id: ProjectId
    object: Literal["project"]
    name: str
    created_at: Time


class NewProject(Project):
    api_key: ApiKey


class Key(TypedDict):
    id: KeyId
    object: Literal["key"]
    role: Annotated[str, string(enum=["admin", "write", "read"])]
    name: str
    created_at: Time


class NewKey(Key):
    api_key: ApiKey


class OwnProject(TypedDict):
    id: ProjectId
    name: str


class OwnKey(TypedDict):
    id: KeyId
    name: str
    role: Annotated[str, string(enum=["admin", "write", "read"])]


class Me(TypedDict):
    """Who is asking, and whom."""

    object: Literal["me"]
    project: OwnProject
    key: OwnKey
    base_url: Annotated[Url, Field(description="What links in answers and events begin with.")]
    version: str
