"""Data that a job reads from S3: which objects, and which of them each of its hosts gets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, relative_key, split_uri

__all__ = ["S3Object", "S3Source"]

_NONE = (
    'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in the selected region '
    '({region}), that objects exist under that S3 prefix, and that the role {role}has "s3:ListBucket" permissions on bucket "{bucket}".'
)


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object, and where it lies below the directory that the data goes to."""

    bucket: str
    key: str
    path: str

    @property
    def uri(self) -> str:
        """``s3://<bucket>/<key>``."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class S3Source:
    """A prefix or a manifest; ``sharded``: each host gets its part of the objects, not all of them."""

    uri: str
    manifest: bool = False
    sharded: bool = False

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> S3Source:
        """From an ``S3DataSource`` (or a processing job's ``S3Input``) of a request."""
        return cls(source["S3Uri"], source.get("S3DataType") == "ManifestFile", source.get("S3DataDistributionType") == "ShardedByS3Key")

    def objects(self, clients: Clients, *, region: str) -> list[S3Object]:
        """Every object. Raises ArtifactError in AWS's words where there is none."""
        found = self._named(clients, region=region) if self.manifest else self._below(clients, region=region)
        if not found:
            raise self._none(region)
        return found

    def check(self, clients: Clients, *, region: str, role: str) -> None:
        """Raises ArtifactError in AWS's words, which name the ``role``, where nothing lies at the prefix, or no manifest."""
        bucket, prefix = split_uri(self.uri)
        try:
            found = clients.client("s3", region).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("KeyCount", 0)
        except ClientError:  # no such bucket
            found = 0
        if not found:
            raise self._none(region, role=f'"{role}" ')

    def _none(self, region: str, *, role: str = "") -> ArtifactError:
        return ArtifactError(_NONE.format(uri=self.uri, region=region, bucket=split_uri(self.uri)[0], role=role))

    def download(self, into: Path, clients: Clients, *, region: str, hosts: Sequence[Path]) -> None:
        """The objects below ``<host>/<into>`` for each host. Raises ArtifactError."""
        for number, one in enumerate(self.objects(clients, region=region)):
            for host in [hosts[number % len(hosts)]] if self.sharded else hosts:
                clients.fetch(one.uri, host / into / one.path, region=region)

    def _below(self, clients: Clients, *, region: str) -> list[S3Object]:
        bucket, prefix = split_uri(self.uri)
        try:
            keys = clients.objects(self.uri, region=region)
        except ArtifactError as error:  # no such bucket
            raise self._none(region) from error
        return [S3Object(bucket, key, relative_key(key, prefix)) for key in keys]

    def _named(self, clients: Clients, *, region: str) -> list[S3Object]:
        """A manifest: ``[{"prefix": "s3://bucket/folder/"}, "relative/path", ...]``; paths keep their place below the prefix."""
        try:
            document = json.loads(clients.read(self.uri, region=region))
            bucket, prefix = split_uri(document[0]["prefix"])
            names = [str(name) for name in document[1:]]
        except (ValueError, LookupError, TypeError) as error:
            raise ArtifactError(f"The manifest {self.uri} is not a JSON list that begins with a prefix: {error}") from error
        unsafe = [name for name in names if ".." in PurePosixPath(name).parts or name.startswith("/")]
        if unsafe:
            raise ArtifactError(f"The manifest {self.uri} names {unsafe[0]!r}, which leads out of its prefix")
        return [S3Object(bucket, prefix + name, name) for name in names]
