"""A reference taken apart wrongly pushes to the wrong place."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.images.reference import Reference, ecr_region, password_region, registry_password

ECR = "123456789012.dkr.ecr.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("app", ("", "app", "latest", "")),
        ("team/app:1.2", ("", "team/app", "1.2", "")),
        (f"{ECR}/team/app:x", (ECR, "team/app", "x", "")),
        (f"{ECR}/app@sha256:{'a' * 64}", (ECR, "app", "", f"sha256:{'a' * 64}")),
        ("localhost:5000/app", ("localhost:5000", "app", "latest", "")),
    ],
)
def test_references(text: str, parts: tuple[str, str, str, str]) -> None:
    reference = Reference.parse(text)
    assert (reference.host, reference.repository, reference.tag, reference.digest) == parts


@pytest.mark.parametrize("text", ["", "Upper", "a b", "app:bad tag", "app@sha256:short", "../x", "a//../b", "a/../b", "-.com/x"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        Reference.parse(text)


def test_only_ecr_hosts_have_a_region() -> None:
    assert ecr_region(ECR) == "us-west-2"
    assert ecr_region("docker.io") is None
    assert ecr_region(f"{ECR}.evil.example") is None


def test_a_password_names_its_region_and_others_do_not() -> None:
    assert password_region(registry_password("eu-west-1")) == "eu-west-1"
    assert password_region("hunter2") is None
    assert password_region("eyJhIjoxfQ==") is None
