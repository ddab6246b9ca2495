"""A real S3 server for the commands."""

from tests.s3 import new_connections, s3_bucket, s3_server  # noqa: F401 - fixtures
