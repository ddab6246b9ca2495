"""Where the files of releases lie, and the order in which they come to be: the manifest commits, the pointer follows.

A publish writes into `releases/<name>/` under the lease `publish`. Until the manifest is there the folder is nobody's
release: the next publish of that name goes on with it where it has the same content, and clears it otherwise. What only
the unfinished need (`publishing/<name>/<work>/`) goes in the end.
"""

import json
from collections.abc import Iterator, Mapping, Sequence, Set

from records.errors import ReelscribeError, UserError
from records.releases import LATEST, Manifest, is_release_name
from storage.faults import redact
from storage.stores import Store

LEASE = "publish"
"""The lease that publishers, and `jobs.prune`, hold: a publish reads what prune would remove."""


class Releases:
    """The releases of one output."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def store(self) -> Store:
        """Where they lie."""
        return self._store

    def manifest(self, name: str) -> Manifest | None:
        """A release's manifest, or None where there is no such release, or not yet.

        Raises:
            UserError: It is of a newer format, or damaged.
        """
        path = release_path(name, "manifest.json")
        try:
            data = self._store.read_bytes(path)
        except FileNotFoundError:
            return None
        try:
            return Manifest.decode(data)
        except UserError as error:
            raise UserError(f"{self._store.uri(path)}: {error}") from None

    def latest(self) -> str | None:
        """The name that LATEST holds.

        Raises:
            UserError: It holds none.
        """
        return latest_release(self._store)

    def point_latest(self, name: str) -> bool:
        """Moves LATEST; False where it was there already.

        Raises:
            UserError: There is no such release.
            ReelscribeError: Somebody else moved it in the same moment.
        """
        if self.manifest(name) is None:
            raise UserError(f"{self._store.uri(release_path(name, ''))} is no release: it has no manifest")
        path, data = f"releases/{LATEST}", f"{name}\n".encode()
        try:
            found, token = self._store.read_with_token(path)
        except FileNotFoundError:
            moved = self._store.create(path, data)
        else:
            if found == data:
                return False
            moved = self._store.replace(path, data, token)
        if not moved:
            raise ReelscribeError(f"{self._store.uri(path)} was moved by somebody else: look at it, then try again")
        return True

    def unfinished(self) -> Iterator[tuple[str, list[str]]]:
        """Name and objects of each release that has no manifest, with what its publish kept aside."""
        names = set(self._store.folders("releases/")) | set(self._store.folders("publishing/"))
        for name in sorted(names):
            paths = [] if self.manifest(name) is not None else self._paths(release_path(name, ""))
            paths += self._paths(f"publishing/{name}/")
            if paths:
                yield name, paths

    def clear(self, name: str, *, keep_work: str) -> None:
        """Removes what publishes of another content than `keep_work` left under a name that has no manifest."""
        works = list(self._store.folders(f"publishing/{name}/"))
        if works != [keep_work]:
            self._delete(release_path(name, ""))
            self._delete(f"publishing/{name}/")
        self.abort_uploads(name)

    def abort_uploads(self, name: str) -> None:
        """Removes the pieces of objects that were never finished."""
        for folder in (release_path(name, ""), f"publishing/{name}/"):
            for path, token in self._store.open_uploads(folder):
                self._store.abort_upload(path, token)

    def remove_others(self, name: str, expected: Mapping[str, int]) -> None:
        """Holds a release's folder against what its manifest will say, and removes what it will not name.

        Args:
            name: The release.
            expected: Path below the release to its size in bytes.

        Raises:
            ReelscribeError: An object is missing, or of another size.
        """
        prefix = release_path(name, "")
        found = self._held_against(name, expected, "publish again")
        self._store.delete([prefix + path for path in sorted(found - expected.keys())])

    def check_whole(self, manifest: Manifest) -> None:
        """Holds the objects of a release that is there against their sizes in its manifest.

        Raises:
            ReelscribeError: An object is missing, or of another size.
        """
        expected = {file.path: file.size_bytes for file in manifest.files}
        self._held_against(manifest.release, expected, "the release is damaged, publish under another name")

    def _held_against(self, name: str, expected: Mapping[str, int], advice: str) -> Set[str]:
        prefix = release_path(name, "")
        found = {entry.path[len(prefix) :]: entry.size_bytes for entry in self._store.list(prefix)}
        for path, size in expected.items():
            if found.get(path) != size:
                said = f"{found[path]} bytes" if path in found else "not there"
                raise ReelscribeError(f"{self._store.uri(prefix + path)} is {said}, not {size} bytes: {advice}")
        return found.keys()

    def commit(self, manifest: Manifest) -> None:
        """Creates the manifest: from here on the release is there, and never changes.

        Raises:
            ReelscribeError: There is another one.
        """
        path = release_path(manifest.release, "manifest.json")
        if not self._store.create(path, manifest.encode()):
            raise ReelscribeError(f"{self._store.uri(path)} was written by somebody else: publish under another name")

    def forget_work(self, name: str) -> None:
        """Removes what only the unfinished need."""
        self._delete(f"publishing/{name}/")

    def begin_work(self, name: str, work: str) -> None:
        """Leaves the note by which the next publish knows whose files these are."""
        self._store.create(work_path(name, work, "started.json"), json.dumps({"release": name, "work": work}).encode())

    def write_over(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Writes small objects of a release that has no manifest yet, in place of older ones."""
        self._store.create_many(objects)

    def _paths(self, prefix: str) -> list[str]:
        return [entry.path for entry in self._store.list(prefix)]

    def _delete(self, prefix: str) -> None:
        self._store.delete(self._paths(prefix))


def latest_release(store: Store) -> str | None:
    """The name that an output's LATEST holds, or None where it has no release.

    Raises:
        UserError: It holds none.
    """
    path = f"releases/{LATEST}"
    try:
        data = store.read_bytes(path)
    except FileNotFoundError:
        return None
    name = data.decode("utf-8", "replace").strip()
    if not is_release_name(name):
        raise UserError(f"{redact(store.uri(path))} is damaged: write the name of a release into it")
    return name


def release_path(name: str, path: str) -> str:
    """An object of a release, or its folder."""
    return f"releases/{name}/{path}"


def part_path(number: int) -> str:
    """An items file, below the release."""
    return f"items/part-{number:05d}.parquet"


def vectors_path(view: str) -> str:
    """A view's vectors, below the release."""
    return f"vectors/{view}.npy"


def work_path(name: str, work: str, path: str) -> str:
    """What a publish keeps until its release is there."""
    return f"publishing/{name}/{work}/{path}"
