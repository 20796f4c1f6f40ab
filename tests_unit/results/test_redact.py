from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.results.redact import MASK, Redactor, error_summary, redact, secrets_in

# Made up, in the shape of the real ones.
KEY_ID = "AKIA" + "IOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
SESSION = "IQoJb3JpZ2luX2VjE" + "Pz//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="
HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

LEAKS = {
    "access key id": (f"key {KEY_ID} was refused", KEY_ID),
    "temporary key id": (f"AWS_ACCESS_KEY_ID=ASIA{KEY_ID[4:]}", f"ASIA{KEY_ID[4:]}"),
    "secret key, environment": (f"export AWS_SECRET_ACCESS_KEY={SECRET_KEY}", SECRET_KEY),
    "secret key, credentials file": (f"aws_secret_access_key = {SECRET_KEY}", SECRET_KEY),
    "secret key, JSON of STS": (f'{{"SecretAccessKey": "{SECRET_KEY}", "Expiration": "x"}}', SECRET_KEY),
    "secret key, repr of a dict": (f"{{'SecretAccessKey': '{SECRET_KEY}'}}", SECRET_KEY),
    "secret key, JSON in JSON": (f'{{"message": "{{\\"SecretAccessKey\\": \\"{SECRET_KEY}\\"}}"}}', SECRET_KEY),
    "session token, JSON": (f'"SessionToken": "{SESSION}"', SESSION),
    "session token, bare": (f"token was {SESSION} and is gone", SESSION),
    "session token, header": (f"x-amz-security-token: {SESSION}", SESSION),
    "hf token": (f"401 for {HF}", HF),
    "hf token, flag": ("do/tune --hf-token=secret-value-1", "secret-value-1"),
    "hf token, flag and blank": ("do/tune --hf-token secret-value-1 --x", "secret-value-1"),
    "environment token": ("HUGGING_FACE_HUB_TOKEN='abc def ghi'", "abc def"),
    "environment password": ("DB_PASSWORD=hunter2hunter2", "hunter2hunter2"),
    "password flag": ("docker login -u AWS --password hunter2hunter2 host", "hunter2hunter2"),
    "ecr token": ('"authorizationToken": "QVdTOmV5SndZWGxzYjJGa0lqb2k="', "QVdTOmV5SndZWGxzYjJGa0lqb2k"),
    "authorization, v4": (
        f"Authorization: AWS4-HMAC-SHA256 Credential={KEY_ID}/20261120/us-west-2/s3/aws4_request, Signature=fe5f80f77d5fa3be",
        "fe5f80f77d5fa3be",
    ),
    "authorization, basic": ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "authorization, repr of headers": ("{'Authorization': 'Bearer abc', 'Host': 'x'}", "abc"),
    "authorization, bytes": ("b'Authorization': b'Token zzz'", "zzz"),
    "bearer": (f"curl -H 'Bearer {JWT}'", JWT),
    "jwt": (f"got {JWT}.", "eyJzdWIi"),
    "url password": ("git clone https://dana:s3cr3tpass@example.com/x.git", "s3cr3tpass"),
    "url password with an at sign": ("postgres://dana:p@ss@db.example.com/x", "p@ss"),
    "url token": (f"https://{HF}@huggingface.co/Qwen", HF),
    "presigned v4": (
        f"https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}%2F20261120&X-Amz-Signature=0123456789abcdef&X-Amz-Expires=60",
        "0123456789abcdef",
    ),
    "presigned v2": ("https://b.s3.amazonaws.com/k?AWSAccessKeyId=abc&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D", "vjbyPxybdZ"),
    "private key": ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nqqq\n-----END RSA PRIVATE KEY-----\n", "MIIEow"),
    "private key, cut off": ("-----BEGIN PRIVATE KEY-----\nMIIEow", "MIIEow"),
    "github": ("remote: ghp_" + "a1B2" * 9, "a1B2a1B2"),
    "a value that holds the secret": ("error: password=swordfish", "swordfish"),
    "quoted and cut off": ('login failed: "password": "swordfi', "swordfi"),
    "secret string": ('put-secret-value --secret-string "swordfish!"', "swordfish"),
}

FACTS = [
    "94dd91353c8b20ca",
    "27d99a90e91450da: fail-deploy",
    "20261120T110203-4f2a",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "123456789012.dkr.ecr.us-west-2.amazonaws.com/ml-container-creator:rt-qwen3-4b-20261120T110203-4f2a",
    "vllm/vllm-openai@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role",
    "arn:aws:secretsmanager:us-west-2:123456789012:secret:mlcc/hf-token-AbCdEf",
    "s3://mlcc-e2e-datasets/sft-small/train.jsonl",
    "s3://mlcc-artifacts-123456789012-us-west-2/tune/checkpoints/hf/adapter_model.safetensors",
    "transformers-vllm:Qwen/Qwen3-4B:ml.g5.xlarge:us-west-2:managed-inference",
    "http://127.0.0.1:8080/invocations",
    "connect to http://127.0.0.1:8080 as dana@example.com",
    "max_tokens=64 prompt_tokens: 12 completion_tokens=5, eos_token='</s>' pad_token: <pad>",
    'response {"NextToken": "2", "ClientToken": "abc", "tokens": [1, 2]}',
    "Error: Token required for gated model; use bearer authentication",
    "TOKENIZERS_PARALLELISM=false",
    "tokenizer: Qwen2TokenizerFast, hf_transfer, hf_hub_download_and_more",
    "docker login --username AWS --password-stdin host",
    "secrets: none; password policy unchanged",
    "git rev 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "SECRET_ARN=arn:aws:secretsmanager:us-west-2:123456789012:secret:x",
    'File "/usr/lib/python3.11/site-packages/peft/tuners/lora/model.py", line 12, in forward',
]


@pytest.mark.parametrize(("text", "secret"), LEAKS.values(), ids=list(LEAKS))
def test_a_secret_never_gets_into_a_record(text: str, secret: str) -> None:
    clean = redact(text)
    assert secret not in clean
    assert MASK in clean
    assert redact(clean) == clean


@pytest.mark.parametrize("text", FACTS)
def test_what_people_need_to_read_stays(text: str) -> None:
    """A redacted digest or run id makes a report useless, and people switch redaction off."""
    assert redact(text) == text


def test_the_rest_of_the_line_stays_readable() -> None:
    assert redact(f"PUT s3://b/k with AWS_SECRET_ACCESS_KEY={SECRET_KEY}; 403") == f"PUT s3://b/k with AWS_SECRET_ACCESS_KEY={MASK}; 403"
    assert redact("https://dana:s3cr3t@example.com/x.git: 404") == f"https://dana:{MASK}@example.com/x.git: 404"
    assert redact('{"Authorization": "Bearer abc", "Host": "x"}') == f'{{"Authorization": "{MASK}", "Host": "x"}}'


def test_known_secrets_go_in_every_form_a_log_may_show() -> None:
    secret = 'p"a$$ w/rd+\n9'
    redactor = Redactor([secret])
    for form in (secret, json.dumps(secret), quote(secret, safe=""), base64.b64encode(secret.encode()).decode()):
        assert redactor(f"before {form} after") in (f"before {MASK} after", f'before "{MASK}" after')


def test_a_secret_that_contains_another_goes_whole() -> None:
    assert Redactor(["swordfish", "swordfish-2000"])("say swordfish-2000") == f"say {MASK}"


def test_short_values_are_no_secrets() -> None:
    """TOKEN=true in the environment must not blank every 'true' of every log."""
    assert Redactor(["true", "1", ""])("true and 1") == "true and 1"


def test_values_keep_their_shape() -> None:
    clean = Redactor(["swordfish"]).value({"a": ["swordfish", 1, None], "b": {"c": ("x swordfish",)}})
    assert clean == {"a": [MASK, 1, None], "b": {"c": [f"x {MASK}"]}}


def test_the_environment_names_its_secrets() -> None:
    environment = {
        "HF_TOKEN": "hf-secret-1",
        "MY_SECRET": "secret-two",
        "db_password": "secret-three",
        "NGC_API_KEY": "secret-four",
        "TOKENIZERS_PARALLELISM": "false-false",
        "SECRET_ARN": "arn:aws:secretsmanager:x",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "SHORT_TOKEN": "true",
        "PATH": "/usr/bin:/bin",
    }
    assert set(secrets_in(environment)) == {"hf-secret-1", "secret-two", "secret-three", "secret-four"}


def test_no_half_of_a_secret_escapes_at_the_cut() -> None:
    """Cutting first leaves the tail of a token, which no pattern knows any more."""
    text = f"x HF_TOKEN={'Z' * 60}" + "y" * 0 + " end"
    assert "ZZZ" not in error_summary(text, limit=30)
    assert error_summary("a" * 600 + "b") == "a" * 499 + "b"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.from_regex(r"[a-f0-9]{16}", fullmatch=True), st.from_regex(r"sha256:[a-f0-9]{64}", fullmatch=True))
def test_no_config_id_and_no_digest_looks_like_a_secret(config_id: str, digest: str) -> None:
    assert redact(f"{config_id} {digest}") == f"{config_id} {digest}"


def test_a_long_log_is_redacted_in_reasonable_time() -> None:
    """A pattern that backtracks would hang a run on one odd line."""
    import time

    nasty = [
        "a" * 200_000,
        "eyJ" * 50_000,
        "://" * 50_000,
        "http://" + "a" * 100_000,
        "TOKEN_" * 30_000,
        "-----BEGIN " + "A " * 50_000,
        "bearer " * 30_000,
    ]
    begin = time.process_time()
    for text in nasty:
        redact(text)
    assert time.process_time() - begin < 5


def test_a_secret_that_is_learned_later_is_one_from_then_on() -> None:
    redactor = Redactor(["swordfish-1000"])
    redactor.learn(["gateway/token 1", "short"])
    assert redactor("swordfish-1000, gateway/token 1, gateway%2Ftoken%201, short") == f"{MASK}, {MASK}, {MASK}, short"
