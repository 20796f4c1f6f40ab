"""What goes into a build and what comes out: sources, artifacts and logs in S3, in the places a pipeline looks for them."""

from __future__ import annotations

import gzip
import hashlib
import io
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ROLE = "arn:aws:iam::123456789012:role/mlcc-codebuild-role"
BUCKET = "mlcc-artifacts-123456789012-us-west-2"
Runner = Callable[..., dict[str, Any]]

_HEAD = "version: 0.2\nphases:\n  build:\n    commands:\n"


@pytest.fixture
def place(local_aws: Any) -> str:
    """A prefix of this test's own in the bucket."""
    return f"t/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(local_aws: Any) -> Iterator[Runner]:
    """Make a project of these members, build it once; the build."""
    codebuild, names = local_aws.client("codebuild"), []

    def build(buildspec: str, *, start: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
        names.append(f"f-{uuid.uuid4().hex[:8]}")
        environment = {"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"}
        codebuild.create_project(**{
            "name": names[-1], "source": {"type": "NO_SOURCE", "buildspec": buildspec}, "artifacts": {"type": "NO_ARTIFACTS"},
            "environment": environment, "serviceRole": ROLE, **members,
        })  # fmt: skip
        build_id = codebuild.start_build(projectName=names[-1], **(start or {}))["build"]["id"]
        deadline = time.monotonic() + 30
        while not (ended := codebuild.batch_get_builds(ids=[build_id])["builds"][0])["buildComplete"]:
            assert time.monotonic() < deadline, ended
            time.sleep(0.02)
        return dict(ended)

    yield build
    for name in names:
        codebuild.delete_project(name=name)


def _keys(local_aws: Any, prefix: str) -> list[str]:
    listed = local_aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return sorted(item["Key"].removeprefix(prefix).lstrip("/") for item in listed)


def _zip(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def _context(build: dict[str, Any], phase: str) -> dict[str, str]:
    context: dict[str, str] = next(each["contexts"][0] for each in build["phases"] if each["phaseType"] == phase)
    return context


def test_a_folder_and_a_second_source(local_aws: Any, run: Runner, place: str) -> None:
    s3 = local_aws.client("s3")
    s3.put_object(Bucket=BUCKET, Key=f"{place}/src/deep/a.txt", Body=b"first")
    s3.put_object(Bucket=BUCKET, Key=f"{place}/two.zip", Body=_zip({"b.txt": "second"}))
    spec = _HEAD + "      - 'test \"$(cat deep/a.txt)$(cat $CODEBUILD_SRC_DIR_two/b.txt)\" = firstsecond'\n"
    build = run(
        spec,
        source={"type": "S3", "location": f"{BUCKET}/{place}/src/", "buildspec": spec},
        secondarySources=[{"type": "S3", "location": f"arn:aws:s3:::{BUCKET}/{place}/two.zip", "sourceIdentifier": "two"}],
    )
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    assert build["secondarySources"][0]["sourceIdentifier"] == "two"


def test_a_buildspec_lies_in_s3(local_aws: Any, run: Runner, place: str) -> None:
    local_aws.client("s3").put_object(Bucket=BUCKET, Key=f"{place}/spec.yml", Body=(_HEAD + "      - 'true'\n").encode())
    assert run(f"arn:aws:s3:::{BUCKET}/{place}/spec.yml")["buildStatus"] == "SUCCEEDED"
    missing = run(f"arn:aws:s3:::{BUCKET}/{place}/none.yml")
    assert "NoSuchKey" in _context(missing, "DOWNLOAD_SOURCE")["message"]


def test_a_source_with_a_trap_is_refused(local_aws: Any, run: Runner, place: str) -> None:
    local_aws.client("s3").put_object(Bucket=BUCKET, Key=f"{place}/evil.zip", Body=_zip({"../../../out-of-the-zip": "x"}))
    build = run("", source={"type": "S3", "location": f"{BUCKET}/{place}/evil.zip"})
    assert build["buildStatus"] == "FAILED"
    assert "leads outside" in _context(build, "DOWNLOAD_SOURCE")["message"]
    assert not list(local_aws.state_dir.glob("**/out-of-the-zip"))


def test_a_zip_of_artifacts_has_its_sums(local_aws: Any, run: Runner, place: str) -> None:
    spec = _HEAD + "      - 'mkdir -p out/deep; echo 1 > out/deep/a.txt; echo 2 > out/b.log; export V=7'\n"
    spec += "artifacts:\n  base-directory: out\n  name: result-$V.zip\n  files: ['**/*']\n  exclude-paths: ['*.log']\n"
    artifacts = {
        "type": "S3", "location": BUCKET, "path": place, "packaging": "ZIP", "namespaceType": "BUILD_ID", "overrideArtifactName": True,
    }  # fmt: skip
    build = run(spec, artifacts=artifacts)
    unique = build["id"].rpartition(":")[2]
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/{place}/{unique}/result-7.zip", build["phases"]
    body = local_aws.client("s3").get_object(Bucket=BUCKET, Key=f"{place}/{unique}/result-7.zip")["Body"].read()
    assert zipfile.ZipFile(io.BytesIO(body)).namelist() == ["deep/a.txt"]
    assert build["artifacts"]["sha256sum"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ("**/*.log", ["a.txt", "sub/b.txt", "sub/deep/c.txt"]),
        ("*.log", ["a.txt", "sub/b.txt", "sub/deep/c.txt", "sub/x.log"]),
        ("sub/**/*", ["a.txt", "x.log"]),
        ("sub/*", ["a.txt", "sub/deep/c.txt", "x.log"]),
        ("**/deep/**/*", ["a.txt", "sub/b.txt", "sub/x.log", "x.log"]),
    ],
)
def test_artifacts_are_left_out_by_folders(local_aws: Any, run: Runner, place: str, excluded: str, left: list[str]) -> None:
    """One star stays in a folder, two go through any number of them, none included."""
    spec = _HEAD + "      - 'mkdir -p o/sub/deep; cd o; touch a.txt x.log sub/b.txt sub/x.log sub/deep/c.txt'\n"
    spec += f"artifacts:\n  base-directory: o\n  files: ['**/*']\n  exclude-paths: ['{excluded}']\n"
    run(spec, artifacts={"type": "S3", "location": BUCKET, "path": place, "name": "n"})
    assert _keys(local_aws, f"{place}/n") == left


def test_flat_and_second_artifacts(local_aws: Any, run: Runner, place: str) -> None:
    spec = _HEAD + "      - 'mkdir -p x/y; echo 1 > x/y/a; echo 2 > b; ln -s /etc/hostname stolen'\n"
    spec += "artifacts:\n  files: ['x/**/*', stolen]\n  discard-paths: yes\n  secondary-artifacts:\n    second:\n      files: [b]\n"
    build = run(
        spec,
        artifacts={"type": "S3", "location": BUCKET, "path": place, "name": "one"},
        secondaryArtifacts=[{"type": "S3", "location": BUCKET, "path": place, "name": "two", "artifactIdentifier": "second"}],
    )
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    assert _keys(local_aws, place) == ["one/a", "two/b"], "a link that leads out is not followed"
    assert build["secondaryArtifacts"] == [{"location": f"arn:aws:s3:::{BUCKET}/{place}/two", "artifactIdentifier": "second",
                                            **{key: value for key, value in build["secondaryArtifacts"][0].items()
                                               if key not in ("location", "artifactIdentifier")}}]  # fmt: skip


def test_artifacts_that_are_not_there_fail_the_upload(run: Runner, place: str) -> None:
    spec = _HEAD + "      - 'true'\nartifacts:\n  files: [none]\n"
    build = run(spec, artifacts={"type": "S3", "location": BUCKET, "path": place})
    assert (build["buildStatus"], _context(build, "UPLOAD_ARTIFACTS")["statusCode"]) == ("FAILED", "CLIENT_ERROR")
    assert _context(build, "UPLOAD_ARTIFACTS")["message"] == "no matching artifact paths found"
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/{place}/{build['projectName']}", "it is known from the start"


def test_the_log_goes_to_s3_too_without_the_secrets(local_aws: Any, run: Runner, place: str) -> None:
    local_aws.client("ssm").put_parameter(Name=f"/{place}/p", Value="p4rameter", Type="SecureString")
    spec = f"version: 0.2\nenv:\n  parameter-store: {{P: /{place}/p}}\nphases:\n  build:\n    commands: ['echo said $P']\n"
    logs = {"cloudWatchLogs": {"status": "DISABLED"}, "s3Logs": {"status": "ENABLED", "location": f"{BUCKET}/{place}"}}
    build = run(spec, logsConfig=logs)
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    assert "groupName" not in build["logs"]
    body = local_aws.client("s3").get_object(Bucket=BUCKET, Key=build["logs"]["s3LogsArn"].partition("/")[2])["Body"].read()
    assert "said ***" in gzip.decompress(body).decode()
    assert "p4rameter" not in gzip.decompress(body).decode()


def test_everything_a_buildspec_may_have_is_taken_and_what_is_not_done_is_said(local_aws: Any, run: Runner) -> None:
    spec = (
        "version: 0.2\nrun-as: nobody\nenv:\n  shell: bash\n  variables: {A: 1}\n  git-credential-helper: no\n"
        "proxy: {upload-artifacts: no}\n"
        "phases:\n  install:\n    run-as: root\n    runtime-versions: {python: 3.11}\n    commands: ['true']\n"
        "reports: {r: {files: ['*.xml'], file-format: JUNITXML}}\ncache: {paths: ['/root/.cache/**/*']}\n"
    )
    build = run(spec)
    assert build["buildStatus"] == "SUCCEEDED"
    where = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"], "startFromHead": True}
    said = "\n".join(event["message"] for event in local_aws.client("logs").get_log_events(**where)["events"])
    for undone in ("run-as nobody: ", "runtime-versions: ", "reports: ", "cache: "):
        assert undone in said


@pytest.mark.parametrize("base", ["/etc", "..", "../home"])
def test_a_base_directory_outside_the_source_hands_out_nothing(local_aws: Any, run: Runner, place: str, base: str) -> None:
    spec = _HEAD + f"      - 'true'\nartifacts:\n  base-directory: {base}\n  files: ['**/*']\n"
    build = run(spec, artifacts={"type": "S3", "location": BUCKET, "path": place})
    assert (build["buildStatus"], _context(build, "UPLOAD_ARTIFACTS")["message"]) == (
        "FAILED", f"no matching base directory path found for {base}"
    )  # fmt: skip
    assert _keys(local_aws, place) == []
