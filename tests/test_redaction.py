"""Does anything that looks like a credential get through, and do ordinary words stay readable?"""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.redaction import MASK, holds_credential, redacted, redacted_data, secrets_in

PLANTED = "pl4nted-Cr3dential/xyz"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://user:{PLANTED}@bucket/run",
        f"https://user:{PLANTED}@host:8265/x",
        f"https://acc.blob.core.windows.net/c/x?sv=2024&sig={PLANTED}",
        f"https://b.s3.amazonaws.com/x?X-Amz-Signature={PLANTED}&a=1",
        f"https://storage.googleapis.com/b/x?X-Goog-Credential={PLANTED}",
        f"Authorization: Bearer {PLANTED}",
        f"bearer {PLANTED}",
        f"aws_secret_access_key = {PLANTED}",
        f"AWS_SECRET_ACCESS_KEY={PLANTED}",
        f'{{"private_key": "{PLANTED}"}}',
        f"AccountKey={PLANTED};EndpointSuffix=x",
        f"password: {PLANTED}",
        f"-----BEGIN PRIVATE KEY-----\n{PLANTED}\n-----END PRIVATE KEY-----",
    ],
)
def test_redacted_hides_a_credential_of_every_known_shape(text: str) -> None:
    assert PLANTED not in redacted(text)
    assert MASK in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/run7/model.ckpt-10000",
        "step 11000 loss 0.31 412 steps/s",
        "token_embedding/Adam_1:0 is missing from the checkpoint",
        "worker 1 on node 10.0.0.3 lost; keep_prob:0=0.5",
        "file:///data/run@7/x",
        "https://host:8265/api/jobs/?limit=3",
        "no permission to read s3://b: NoCredentialsError: Unable to locate credentials",
    ],
)
def test_redacted_leaves_ordinary_words_alone(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA1:{PLANTED}@bucket/run",
        "s3://AKIA1:12345/abc@bucket/run",
        f"s3://:{PLANTED}@bucket",
        "s3://AKIA1%3Asecret@bucket/run",
        f"S3A:///AKIA1:{PLANTED}@bucket",
        f"gs://{PLANTED.replace('/', '')}@bucket/x",
        f"https://me:{PLANTED}@host:8265/x",
        "https://token@host/x",
        f"abfs://container:{PLANTED}@account/x",
        f"simplecache::s3://k:{PLANTED}@b/x",
        f"https://a.blob.core.windows.net/c/x?sv=2024&sig={PLANTED}",
        f"bogus://me:{PLANTED}@b/x",
        f"ray://me:{PLANTED}@head:10001",
    ],
)
def test_holds_credential_finds_it(url: str) -> None:
    assert holds_credential(url)


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/run7/model@5:3@x",
        "abfs://container@account.dfs.core.windows.net/x",
        "hdfs://me@namenode:8020/x",
        "https://host:8265/run@7",
        "file:///data/a:b@c",
        "/data/me:x@y/run",
        "github://org:repo@main/x",
        "s3://b/x?versionId=abc",
        "http://[::1]:9000/x",
        "",
    ],
)
def test_holds_credential_leaves_ordinary_places_alone(url: str) -> None:
    assert not holds_credential(url)
    assert redacted(url) == url or url.startswith("github")


def test_redacted_hides_the_values_of_secret_environment_variables() -> None:
    secrets = secrets_in(
        {
            "MY_API_KEY": "zzz-value-zzz",
            "HOME": "/home/me",
            "AWS_SHARED_CREDENTIALS_FILE": "/etc/creds",
            "TOKEN_MODE": "token1",
        }
    )
    assert secrets == {"zzz-value-zzz"}
    assert redacted("it is zzz-value-zzz here", secrets) == f"it is {MASK} here"


def test_redacted_data_hides_values_under_secret_names_at_any_depth() -> None:
    data = {
        "event": "start",
        "config": {"env": [{"secret_key": PLANTED, "n": 3}]},
        "url": f"s3://a:{PLANTED}@b/c",
    }
    assert redacted_data(data) == {
        "event": "start",
        "config": {"env": [{"secret_key": MASK, "n": 3}]},
        "url": f"s3://{MASK}@b/c",
    }


@given(st.text(max_size=200))
def test_redacted_twice_is_redacted_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_log_lines_and_tracebacks_are_redacted() -> None:
    from launch.terminal import RedactingFormatter

    try:
        raise ValueError(f"s3://a:{PLANTED}@b/c")
    except ValueError as error:
        record = logging.LogRecord(
            "tfresume",
            logging.ERROR,
            __file__,
            1,
            "put %s",
            (f"password={PLANTED}",),
            (type(error), error, error.__traceback__),
        )
    assert PLANTED not in RedactingFormatter("%(message)s").format(record)
