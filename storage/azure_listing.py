"""One folder of a container of Azure's, in one request for each 5,000 names, through the client that adlfs holds.

adlfs's own `ls` (2026.8) hides names with an empty part (`a//b.mp4`) and what lies below an object of the folder's own
name, and asks three times or four.
"""

from collections.abc import Mapping
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import sync

from records.errors import FailureKind
from storage.faults import classify


def is_azure(filesystem: AbstractFileSystem) -> bool:
    """Whether it holds a client of Azure's, as adlfs's file system does."""
    return hasattr(filesystem, "service_client")


def azure_infos(filesystem: AbstractFileSystem, folder: str) -> list[Mapping[str, Any]]:
    """What lies right in a folder, as fsspec's `ls` tells it, but with names as they are; folders end in `/`.

    Args:
        filesystem: Of `is_azure`.
        folder: Container and prefix, with `/` at its end. Also a prefix that ends in `//` is one.
    """
    container, _, prefix = folder.partition("/")
    try:
        found: list[Mapping[str, Any]] = sync(filesystem.loop, _walk, filesystem.service_client, container, prefix)
    except Exception as error:
        if classify(error) is FailureKind.NOT_FOUND:
            return []
        raise
    return found


async def _walk(client: Any, container: str, prefix: str) -> list[Mapping[str, Any]]:  # noqa: ANN401 - azure's own
    infos: dict[str, Mapping[str, Any]] = {}
    async with client.get_container_client(container=container) as opened:
        async for blob in opened.walk_blobs(name_starts_with=prefix, include=["metadata"], delimiter="/"):
            name = f"{container}/{blob.name}"
            if blob.name.endswith("/"):
                infos[name] = {"name": name, "type": "directory"}
            elif (blob.metadata or {}).get("hdi_isfolder") == "true":
                infos.setdefault(f"{name}/", {"name": f"{name}/", "type": "directory"})
            else:
                facts = {"size": blob.size, "etag": blob.etag, "last_modified": blob.last_modified}
                infos[name] = {"name": name, "type": "file", **facts}
    infos.pop(f"{container}/{prefix}", None)  # the folder's own marker
    return list(infos.values())
