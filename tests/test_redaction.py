"""Does anything that looks like a credential get through, and do ordinary words stay readable?"""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.redaction import MASK, redacted, redacted_data, secrets_in

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
    ],
)
def test_redacted_leaves_ordinary_words_alone(text: str) -> None:
    assert redacted(text) == text


def test_redacted_hides_the_values_of_secret_environment_variables() -> None:
    secrets = secrets_in(
        {"MY_API_KEY": "zzz-value-zzz", "HOME": "/home/me", "AWS_SHARED_CREDENTIALS_FILE": "/etc/creds", "TOKEN_MODE": "token1"}
    )
    assert secrets == {"zzz-value-zzz"}
    assert redacted("it is zzz-value-zzz here", secrets) == f"it is {MASK} here"


def test_redacted_data_hides_values_under_secret_names_at_any_depth() -> None:
    data = {"event": "start", "config": {"env": [{"secret_key": PLANTED, "n": 3}]}, "url": f"s3://a:{PLANTED}@b/c"}
    assert redacted_data(data) == {"event": "start", "config": {"env": [{"secret_key": MASK, "n": 3}]}, "url": f"s3://{MASK}@b/c"}


@given(st.text(max_size=200))
def test_redacted_twice_is_redacted_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_log_lines_and_tracebacks_are_redacted() -> None:
    from launch.terminal import RedactingFormatter

    try:
        raise ValueError(f"s3://a:{PLANTED}@b/c")
    except ValueError as error:
        record = logging.LogRecord(
            "tfresume", logging.ERROR, __file__, 1, "put %s", (f"password={PLANTED}",), (type(error), error, error.__traceback__)
        )
    assert PLANTED not in RedactingFormatter("%(message)s").format(record)
