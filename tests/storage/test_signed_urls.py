"""What of a URL signs: the same object signed anew is the same object, and another object stays another."""

import boto3
import pytest
from botocore.config import Config

from storage.faults import redact
from storage.signed_urls import signature_digest, unsigned

PLAIN = "https://host/a/b.mp4"
SIGNED = [
    f"{PLAIN}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20260101&X-Amz-Date=d&X-Amz-Signature=",
    f"{PLAIN}?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=c&X-Goog-Expires=60&X-Goog-Signature=",
    f"{PLAIN}?AWSAccessKeyId=K&Expires=1700000000&Signature=",
    f"{PLAIN}?GoogleAccessId=me&Expires=1700000000&Signature=",
    f"{PLAIN}?Expires=1700000000&Key-Pair-Id=K&Policy=p&Signature=",
    f"{PLAIN}?sv=2024-11-04&st=t&se=t&sr=b&sp=r&spr=https&skoid=o&sktid=t&skt=t&ske=t&sks=b&skv=v&sig=",
    f"{PLAIN}?OSSAccessKeyId=K&Expires=1700000000&security-token=t&Signature=",
    f"{PLAIN}?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=K&x-oss-date=d&x-oss-expires=60"
    "&x-oss-additional-headers=host&x-oss-security-token=t&x-oss-signature=",
    f"{PLAIN}?q-sign-algorithm=sha1&q-ak=K&q-sign-time=1;2&q-key-time=1;2&q-header-list=host&q-url-param-list="
    "&x-cos-security-token=t&q-signature=",
    f"{PLAIN}?hdnts=exp=1700000000~acl=/*~hmac=",
    f"{PLAIN}?hdnea=st=1~exp=2~acl=/*~hmac=",
    "https://user:password@host/a/b.mp4#",
]


@pytest.mark.parametrize("start", SIGNED)
def test_a_signature_is_not_part_of_what_is_named(start: str) -> None:
    assert unsigned(f"{start}one") == unsigned(f"{start}two") == PLAIN
    assert signature_digest(f"{start}one")
    assert "one" not in signature_digest(f"{start}one")
    assert unsigned(PLAIN) == PLAIN


def test_digests_differ_with_the_signature() -> None:
    for start in SIGNED[:-1]:
        assert signature_digest(f"{start}one") != signature_digest(f"{start}two")


@pytest.mark.parametrize(
    "uri",
    [
        "https://host/watch?v=abc&expires=soon",
        "https://host/a?sv=3&se=7",
        "https://host/a?versionId=12",
        "https://host/a?token=x",
        "https://host/a?x-oss-process=video/snapshot&q-ak=1&security-token=x",
        "s3://bucket/key?X-Amz-Signature=x",
        "/local/a?sig=1",
        "https://[broken",
        "",
    ],
)
def test_what_does_not_sign_stays(uri: str) -> None:
    assert unsigned(uri) == uri
    assert signature_digest(uri) == ""


def test_what_names_the_object_stays_beside_a_signature() -> None:
    assert unsigned(f"{SIGNED[0]}x&versionId=12") == f"{PLAIN}?versionId=12"
    process = "x-oss-process=video/snapshot"
    assert unsigned(f"{PLAIN}?{process}&x-oss-credential=K&x-oss-signature=x") == f"{PLAIN}?{process}"


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_urls_that_boto3_presigns(version: str) -> None:
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="KEY",
        aws_secret_access_key="x",
        aws_session_token="TOKEN",
        config=Config(signature_version=version),
    )
    urls = {
        client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "a/1.mp4"}, ExpiresIn=seconds)
        for seconds in (600, 7200)
    }
    assert len(urls) == 2
    assert len({unsigned(url) for url in urls}) == 1
    assert not any(word in unsigned(url) + redact(url) for url in urls for word in ("KEY", "TOKEN", "ignature"))
