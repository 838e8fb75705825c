"""Keys and tokens of every kind that is named, and what looks like them and is none."""

import base64

import pytest

from tf_image_classification.cloud.secret_patterns import KINDS, find_secret

# Put together here, so that no scanner takes this file for a leak.
PEM = "-----BEGIN {}PRIVATE " + "KEY{}-----"
SECRETS = {
    "a private key": [
        PEM.format("", ""), PEM.format("RSA ", ""), PEM.format("EC ", ""),
        PEM.format("OPENSSH ", ""), PEM.format("ENCRYPTED ", ""), PEM.format("PGP ", " BLOCK"),
        "PuTTY-User-Key-" + "File-3: ssh-ed25519", "AGE-SECRET-" + "KEY-1" + 58 * "Q",
    ],
    "a private key in base64": [base64.b64encode(PEM.format("", "").encode()).decode()],
    "a private key in binary form": [
        b"\x30\x82\x04\xbd\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7",
        b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d",
        b"\x30\x82\x09\xd1\x02\x01\x03\x30\x82", b"\xfe\xed\xfe\xed\x00\x00\x00\x02",
    ],
    "a Google account's key or token": [
        '{"type": "service_' + 'account"}', '"private_' + 'key": "x"', '"refresh_' + 'token":"x"',
        '{"installed": {"client_' + 'secret": "x"}}', "ya29" + ".a0AfH6SMBx_" + 20 * "x",
        "GOC" + "SPX-" + 28 * "a", "AI" + "za" + 35 * "B",
    ],
    "an AWS access key": [
        "AK" + "IA" + "IOSFODNN7EXAMPLE", "key=AS" + "IA" + 16 * "Q",
        "aws_secret_" + "access_key = " + 40 * "a",
    ],
    "an Azure account key": ["AccountName=a;Account" + "Key=" + 86 * "a" + "=="],
    "a token of GitHub or GitLab": [
        "gh" + "p_" + 36 * "a", "gh" + "s_" + 40 * "b", "github_" + "pat_" + 22 * "c",
        "gl" + "pat-" + 20 * "d",
    ],
    "a token of Hugging Face, OpenAI or Anthropic": [
        "h" + "f_" + 17 * "a1", "s" + "k-proj-" + 24 * "b2", "s" + "k-ant-" + 24 * "c3",
    ],
    "a token of Slack, Stripe, npm or PyPI": [
        "xo" + "xb-1234567890-abc", "https://hooks.slack." + "com/services/T0/B0/x",
        "s" + "k_live_" + 20 * "a", "n" + "pm_" + 36 * "a", "pypi-" + "AgEIcHlwaS5vcmcCJGI1",
        "//registry.npmjs.org/:_auth" + "Token=0123456789abcdef0",
    ],
    "a signed web token": ["ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0." + 43 * "s"],
    "the credentials of a cluster or registry": [
        "    client-key-" + "data: LS0tLS1CRUdJTi0t",
        '{"auths": {"ghcr.io": {"auth": "dXNlcg=="}}}',
    ],
    "a password of .netrc's form": ["machine api.wandb.ai\n  login user\n  password 0123"],
    "an address with a password": [
        "postgres://user:" + "swordfish@db/x", "https://me:" + "0123abc@example.org/simple",
    ],
    "a secret assigned to a variable": [
        "WANDB_API_" + "KEY=0123456789abcdef0123", "export HF_" + "TOKEN='abcdefgh12345678'",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_among_other_lines(kind):
    for secret in SECRETS[kind]:
        data = secret if isinstance(secret, bytes) else secret.encode()
        found = find_secret(data)
        assert found is not None and found.kind == kind, secret
        if isinstance(secret, bytes):
            continue
        found = find_secret(b"import os\n\n# text \xff\n" + data + b"\nmore\n")
        assert found is not None and (found.kind, found.line) == (kind, 4), secret
        assert find_secret(f"\n{secret}\n".encode("utf-16")) is not None, secret
        assert secret not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----", "ssh-ed25519 AAAAC3NzaC1lZDI1",
        'password = getpass.getpass("password: ")', 'TOKEN = os.environ["HF_TOKEN"]',
        "MAX_TOKENS = 1000000000000000000000", "API_KEY=${API_KEY}", 
        "API_KEY = get_the_api_key_now()",
        "PASSWORD_FIELD_NAME = 'password_of_the_user'", "https://example.org:8080/a@b",
        "git@github.com:user/repo.git", "gs://bucket/a:b", "http://{user}:{password}@host",
        '{"private_key": ""}', '{"client_id": "x", "token_uri": "y"}', "task-scheduler sk-learn",
        "sk-fold-of-the-cross-validation-of-scikit", "AKIAS of Japan", "xox", "import npm_run",
        base64.b64encode(b"-----BEGIN CERTIFICATE-----abcdefgh").decode(), "",
        "conv2d_kernel_sha256 = 0123456789abcdef0123456789abcdef",
    ],
)  # fmt: skip
def test_ordinary_code_and_data_are_no_secrets(text):
    assert find_secret(f"a = 1\n{text}\n".encode()) is None


def test_pictures_and_weights_are_no_secrets():
    import numpy as np

    random = np.random.RandomState(0)
    assert find_secret(random.bytes(2_000_000)) is None
    assert find_secret(random.standard_normal(100_000).astype(np.float32).tobytes()) is None
