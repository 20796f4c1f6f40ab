"""What the native driver calls the things it creates: all from entry, run, account and region, nothing from chance."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mlcc.aws.names import LIMIT, resource_name

__all__ = ["BASE_IMAGE", "BUILD_PROJECT", "REPOSITORY", "VARIANT", "Names"]

REPOSITORY = "ml-container-creator"
BUILD_PROJECT = "ml-container-creator-build"
BASE_IMAGE = "vllm/vllm-openai:v0.25.1"
VARIANT = "AllTraffic"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one entry in one run."""

    entry: str
    run_id: str
    account: str
    region: str

    def of(self, suffix: str) -> str:
        """``<entry>-<run>-<suffix>``, at most 63 characters."""
        return resource_name(self.entry, self.run_id, suffix)

    @property
    def endpoint(self) -> str:
        """Also the stem of the endpoint configuration's name."""
        return self.of("endpoint")

    @property
    def endpoint_config(self) -> str:
        """The endpoint configuration."""
        return self.of("config")

    @property
    def component(self) -> str:
        """The base inference component."""
        return self.of("base")

    @property
    def adapter(self) -> str:
        """The adapter's inference component."""
        return self.of("adapter")

    @property
    def package_group(self) -> str:
        """The model package group that receives the tuned model."""
        return self.of("tuned")

    @property
    def job_stem(self) -> str:
        """What a training job's name begins with: the SDK adds a dash and 14 digits of time, and cuts what is longer than 63."""
        return resource_name(self.entry, self.run_id, "sft", limit=LIMIT - 15)

    @property
    def build_tag(self) -> str:
        """The image tag that the build pushes; nobody deploys it."""
        return self.of("build")

    @property
    def release_tag(self) -> str:
        """The image tag that ``push`` sets once the registry's digest is the build's."""
        return self.of("")

    @property
    def registry(self) -> str:
        """The account's ECR registry."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"

    @property
    def bucket(self) -> str:
        """Build sources, adapters and tuning output; shared by all runs, never deleted."""
        return f"mlcc-artifacts-{self.account}-{self.region}"

    @property
    def prefix(self) -> str:
        """This entry's and run's own part of the bucket, ending in a slash."""
        return f"{self.run_id}/{self.entry}/"

    @property
    def folder(self) -> str:
        """The prefix as a URI."""
        return f"s3://{self.bucket}/{self.prefix}"
