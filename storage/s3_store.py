"""A prefix of an S3 bucket as a store: If-None-Match creates, If-Match replaces, listings come page by page."""

import errno
from collections.abc import Iterator, Sequence
from typing import Any

from storage.backends import Entry, Piece
from storage.faults import TimeLimits, s3_status
from storage.s3_client import S3Client, clean_etag, split_s3_uri


class S3Backend:
    """A prefix of a bucket on S3 or on a server that speaks its protocol and honours conditional writes."""

    def __init__(self, uri: str, limits: TimeLimits) -> None:
        self._bucket, key = split_s3_uri(uri)
        self._prefix = f"{key.rstrip('/')}/" if key.strip("/") else ""
        self._client = S3Client(limits)

    @property
    def root(self) -> str:
        """`s3://bucket/prefix/`."""
        return f"s3://{self._bucket}/{self._prefix}"

    def check(self) -> None:
        """One request: is the bucket there, and may it be listed?"""
        self._list({"Prefix": self._prefix, "MaxKeys": 1})

    def read(self, path: str) -> tuple[bytes, str]:
        """Content and ETag."""
        found = self._client.read(self._key(path))
        return found.data, found.etag

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end)."""
        return self._client.read(self._key(path) | {"Range": f"bytes={start}-{end - 1}"}).data

    def size(self, path: str) -> int:
        """Length in bytes."""
        return int(self._client.call("head_object", self._key(path))["ContentLength"])

    def create(self, path: str, data: bytes) -> bool:
        """A put with `If-None-Match: *`."""
        return self._put(path, data, {"IfNoneMatch": "*"})

    def replace(self, path: str, data: bytes, token: str) -> bool:
        """A put with `If-Match`."""
        try:
            return self._put(path, data, {"IfMatch": f'"{token}"'})
        except FileNotFoundError as error:
            if s3_status(error)[1] == "NoSuchBucket":
                raise
            return False

    def _put(self, path: str, data: bytes, condition: dict[str, str]) -> bool:
        try:
            self._client.call("put_object", self._key(path) | {"Body": data} | condition)
        except OSError as error:
            if s3_status(error)[0] == 412:
                return False
            raise
        return True

    def page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """One request, of up to a thousand keys.

        An object named as the prefix itself, with which some tools mark a folder, is none below it.
        """
        arguments = {"Prefix": self._prefix + prefix}
        if start := self._prefix + after:
            arguments["StartAfter"] = start
        reply = self._list(arguments)
        return map(self._entry, reply.get("Contents", ())), bool(reply.get("IsTruncated"))

    def _entry(self, found: dict[str, Any]) -> Entry:
        return Entry(
            path=found["Key"][len(self._prefix) :],
            size_bytes=found["Size"],
            etag=clean_etag(found["ETag"]),
            modified=found["LastModified"].timestamp(),
        )

    def names(self, folder: str) -> None:
        """Nothing is quicker than a listing."""
        return None

    def folders(self, prefix: str, token: str) -> tuple[Sequence[str], str]:
        """Common prefixes up to the next `/`, of one page."""
        arguments = {"Prefix": self._prefix + prefix, "Delimiter": "/"} | (
            {"ContinuationToken": token} if token else {}
        )
        page = self._list(arguments)
        skipped = len(self._prefix) + len(prefix)
        names = [found["Prefix"][skipped:-1] for found in page.get("CommonPrefixes", ())]
        return names, page["NextContinuationToken"] if page.get("IsTruncated") else ""

    def delete(self, paths: Sequence[str]) -> None:
        """Removes objects with one request."""
        keys = [{"Key": self._prefix + path} for path in paths]
        reply = self._client.call(
            "delete_objects", {"Bucket": self._bucket, "Delete": {"Objects": keys, "Quiet": True}}
        )
        for refused in reply.get("Errors", ()):
            kind = PermissionError if refused.get("Code") == "AccessDenied" else ConnectionError
            raise kind(errno.EIO, f"{refused.get('Code')}: {refused.get('Key')} was not deleted")

    def retract(self, path: str, token: str) -> None:
        """Leaves it: there is no conditional delete, and no folder to be left."""

    def start_upload(self, path: str) -> str:
        """A multipart upload."""
        return str(self._client.call("create_multipart_upload", self._key(path))["UploadId"])

    def put_piece(self, path: str, token: str, piece: Piece, data: bytes) -> str:
        """One part; its ETag."""
        part = {"UploadId": token, "PartNumber": piece.number + 1, "Body": data}
        return str(self._client.call("upload_part", self._key(path) | part)["ETag"])

    def finish_upload(self, path: str, token: str, receipts: Sequence[str], size_bytes: int) -> bool:
        """Completes with `If-None-Match: *`. A completion whose answer was lost counts as made."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(receipts, start=1)]
        arguments = {"UploadId": token, "MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
        try:
            self._client.call("complete_multipart_upload", self._key(path) | arguments)
        except OSError as error:
            status, code = s3_status(error)
            if code == "NoSuchUpload":
                return self.size(path) == size_bytes
            if status == 412:
                self.abort_upload(path, token)
                return False
            raise
        return True

    def abort_upload(self, path: str, token: str) -> None:
        """Removes the parts, which cost as much as any object until then."""
        try:
            self._client.call("abort_multipart_upload", self._key(path) | {"UploadId": token})
        except OSError as error:
            if s3_status(error)[1] != "NoSuchUpload":
                raise

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """One request a thousand uploads."""
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            page = self._client.call("list_multipart_uploads", arguments)
            for found in page.get("Uploads", ()):
                yield found["Key"][len(self._prefix) :], found["UploadId"]
            if not page.get("IsTruncated"):
                return
            arguments |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def sweep(self, min_age_seconds: float) -> int:
        """Nothing is left behind but uploads, which `open_uploads` names."""
        return 0

    def _key(self, path: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + path}

    def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._client.call("list_objects_v2", {"Bucket": self._bucket} | arguments)
