"""An entry's life under the scripts driver: what it learns, what it refuses to believe, and what the scripts leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_push import push_image

from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog.entry import Track
from pytest_mlcc.drivers.scripts import ScriptOptions, Scripts
from pytest_mlcc.drivers.scripts.state import exports
from pytest_mlcc.drivers.scripts.traces import alive
from pytest_mlcc.errors import ConfigurationError, FailureClass, StageError, StageTimeout
from pytest_mlcc.lifecycle.ports import Context, Deadline, Resource


def test_a_deployed_entry_is_cleaned_and_what_the_scripts_left_is_told(life: Callable[[], Any]) -> None:
    mine, name = life(), ""
    mine.go("generate", "build", "deploy")
    name = mine.facts["generate"]["projectName"]
    assert mine.facts["deploy"] == {"endpoint": f"{name}-endpoint-1", "component": f"{name}-default-1", "endpoint_config": ""}
    assert "building with no profile" in mine.lines
    mine.go("clean")
    assert mine.facts["clean"] == {"left_by_the_scripts": [f"endpoint-config {name}-epc-1"], "files_changed_by_others": []}
    assert f"left by the scripts: endpoint-config {name}-epc-1" in mine.lines
    assert mine.clean_up() == ()
    assert alive(mine.aws, mine.ledger.named()) == []
    mine.go("clean")  # again, as the guardian would
    assert not mine.project.exists()


def test_what_a_failed_deploy_left_is_deleted_although_do_clean_refuses(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    (mine.project / "fail-deploy").touch()
    with pytest.raises(StageError, match=r"exited with 4.*Endpoint failed to reach InService") as caught:
        mine.go("deploy")
    assert caught.value.failure_class is FailureClass.UNKNOWN  # the advice about quotas is no cause
    mine.go("clean")
    assert [line.split(" ")[0] for line in mine.facts["clean"]["left_by_the_scripts"]] == ["endpoint-config"]
    assert mine.clean_up() == ()
    assert list(mine.ledger.open()) == []


@pytest.mark.parametrize(
    ("track", "variables"),
    [
        ("realtime", {}),
        ("async", {"ASYNC_S3_OUTPUT_PATH": "s3://{bucket}/async-output/{project}/", "ASYNC_SNS_ERROR_TOPIC": "{topic}-async-error"}),
        (
            "batch",
            {"BATCH_INPUT_PATH": "s3://{bucket}/batch-input/{project}/", "BATCH_OUTPUT_PATH": "s3://{bucket}/batch-output/{project}/"},
        ),
    ],
)
def test_what_an_endpoint_that_answers_later_needs_is_told_to_every_script_and_to_do_deploy(
    life: Callable[[], Any], track: str, variables: dict[str, str]
) -> None:
    """do/config of 1.6.0 dies of an unbound variable without them, and do/deploy looks for them in do/config."""
    mine = life()
    mine.entry = replace(mine.entry, track=Track(track))
    mine.go("generate", "build")
    (mine.project / "do" / "deploy").write_text("#!/bin/bash\nexit 9\n")
    with pytest.raises(StageError):
        mine.go("deploy")
    project, account, region = mine.facts["generate"]["projectName"], mine.aws.account(), mine.entry.args.region
    places = {"bucket": f"mlcc-artifacts-{account}-{region}", "project": project}
    topic = f"arn:aws:sns:{region}:{account}:ml-container-creator-{project}"
    wanted = {name: text.format(**places, topic=topic) for name, text in variables.items()}
    told = exports(mine.project / "do" / "config")
    assert {name: told.get(name) for name in wanted} == wanted
    assert told["ENDPOINT_NAME"] == f"{project}-none-yet"
    output, asked = (wanted.get(name, "none") for name in ("ASYNC_S3_OUTPUT_PATH", "BATCH_INPUT_PATH"))
    assert f"output: {output}, input: {asked}" in mine.lines


def test_a_deploy_that_takes_too_long_is_a_timeout_whatever_sagemaker_says(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    (mine.project / "do" / "deploy").write_text("#!/bin/bash\necho still Creating; sleep 300\n")
    with pytest.raises(StageTimeout, match=r"\./do/deploy was ended after 1 s") as caught:
        mine.go("deploy", seconds=1)
    assert caught.value.output == "still Creating"


def test_a_clean_that_fails_still_tells_what_is_left(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate", "deploy")
    (mine.project / "fail-clean").touch()
    with pytest.raises(StageError, match="AWS credentials not configured") as caught:
        mine.go("clean")
    assert any(line.startswith("left by the scripts: endpoint-config") for line in mine.lines)
    assert [one.split()[0] for one in caught.value.facts["left_by_the_scripts"]] == ["endpoint-config"]
    assert mine.project.exists()  # for whoever wants to see why
    assert mine.clean_up() == ()


def test_a_script_that_ends_well_and_did_nothing_is_not_believed(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    with pytest.raises(StageError, match="no TUNE_ADAPTER_PATH_SFT") as caught:
        mine.go("tune-sft")
    assert caught.value.output == "⚠️  Could not resolve output artifacts"
    with pytest.raises(StageError, match="registered nothing") as caught:
        mine.go("register")
    assert "MPG registration failed" in caught.value.output


def test_what_carries_the_projects_bare_name_is_left_by_the_scripts_and_deleted(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    with pytest.raises(StageError):
        mine.go("register")
    mine.go("clean")
    assert mine.facts["clean"]["left_by_the_scripts"] == [f"model-package-group {mine.facts['generate']['projectName']}"]
    assert mine.clean_up() == ()
    assert alive(mine.aws, mine.ledger.named()) == []


def test_the_record_knows_project_image_and_strategy(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    found = {name: mine.facts["generate"][name] for name in ("baseImage", "buildStrategy")}
    assert found == {"baseImage": "vllm/vllm-openai:v0.25.1", "buildStrategy": "docker-in-docker"}


def test_results_of_a_benchmark_are_kept_and_keep_no_clean_from_its_end(life: Callable[[], Any]) -> None:
    """do/clean of 1.6.0 asks what to do with them, whatever it is told."""
    mine = life()
    mine.go("generate", "benchmark", "clean")
    assert (mine.folder / "benchmarks" / "ttft").read_text() == "12\n"
    assert not mine.project.exists()


def test_images_left_with_the_engine_are_removed_and_nobody_elses(life: Callable[[], Any]) -> None:
    """``latest`` is shared by all projects: ours where it still names our image. An engine with hundreds lists the newest first."""
    mine = life()
    mine.go("generate")
    name, registry = mine.facts["generate"]["projectName"], "1.dkr.ecr.us-west-2.amazonaws.com"
    images = [
        f"sha256:own {name}:latest", f"sha256:own {registry}/ml-container-creator:{name}-latest",
        f"sha256:own {registry}/ml-container-creator:latest", "sha256:own somebody/same-image:latest",
        f"sha256:b {registry}/other-repository:latest", *(f"sha256:{number} debian:{number}" for number in range(200)),
    ]  # fmt: skip
    docker = mine.folder / "around" / "bin" / "docker"
    docker.write_text(f"#!/bin/sh\n[ $1 = images ] && cat {mine.folder}/images || echo $* > {mine.folder}/removed\n")
    docker.chmod(0o755)
    (mine.folder / "images").write_text("\n".join(images))
    mine.facts["push"] = {"local_image": "sha256:own"}
    mine.go("clean")
    gone = [image.split()[1] for image in images[:3]]
    assert (mine.folder / "removed").read_text().split() == ["rmi", *gone]
    assert mine.facts["clean"]["left_by_the_scripts"] == [f"local-image {one}" for one in gone]
    assert not any("debian" in line for line in mine.lines)


def test_a_script_that_failed_is_heard_in_its_own_words(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    (mine.project / "fail-build").touch()
    with pytest.raises(StageError, match=r"\./do/build exited with 1") as caught:
        mine.go("build")
    assert caught.value.output == "❌ no such base image"


def test_a_changed_file_of_the_project_is_told(life: Callable[[], Any]) -> None:
    mine = life()
    mine.go("generate")
    (mine.project / "code" / "serve").write_text("exit 1")
    mine.go("clean")
    assert mine.facts["clean"]["files_changed_by_others"] == ["code/serve"]


def test_no_stage_before_generate(life: Callable[[], Any]) -> None:
    with pytest.raises(StageError, match="generate has to pass first"):
        life().go("deploy")


def test_a_missing_tool_is_told_before_anything_is_created(aws: Aws, life: Callable[[], Any], tmp_path: Path) -> None:
    class Bare(Scripts):
        def ready(self, steps: Sequence[str] = ()) -> None:
            from pytest_mlcc.drivers.scripts.tools import check

            check(tmp_path / "nothing-here")

    mine = life()
    driver = Bare(aws, accept_eula=lambda _: True, options=ScriptOptions(tmp_path / "nothing-here"))
    context = Context(mine.entry, mine.run, mine.folder, mine.ledger, Deadline(60), mine.lines.append, {})
    with pytest.raises(ConfigurationError, match="mlcc setup mcc"):
        driver.run("generate", context)
    assert list(mine.folder.iterdir()) == []


def test_a_family_is_everything_whose_name_begins_so_and_nothing_else(aws: Aws, life: Callable[[], Any]) -> None:
    mine = life()
    sagemaker, iam, s3, codebuild, sns = (aws.client(name) for name in ("sagemaker", "iam", "s3", "codebuild", "sns"))
    bucket, region = f"mlcc-artifacts-{aws.account()}-{aws.region}", aws.region
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}'
    for name in ("fam-1-a", "fam-1-b", "fam-12-c"):
        sagemaker.create_model_package_group(ModelPackageGroupName=f"{name}-models")
        sns.create_topic(Name=f"ml-container-creator-{name}-async-error")
        iam.create_role(RoleName=f"{name}-role", AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}')
        iam.put_role_policy(RoleName=f"{name}-role", PolicyName="p", PolicyDocument=policy)
        s3.put_object(Bucket=bucket, Key=f"staging-jobs/{name}/entrypoint.sh", Body=b"x")
        codebuild.create_project(
            name=f"{name}-build", source={"type": "NO_SOURCE", "buildspec": "version: 0.2"}, artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
            serviceRole=f"arn:aws:iam::{aws.account()}:role/mlcc-codebuild-role",
        )  # fmt: skip
    families = [
        Resource("model-package-group", "fam-1-*", region), Resource("iam-role", "fam-1-*", region),
        Resource("codebuild-project", "fam-1-*", region), Resource("s3-prefix", f"s3://{bucket}/staging-jobs/fam-1-*", region),
        Resource("sns-topic", "ml-container-creator-fam-1-*", region), Resource("ai-benchmark-job", "fam-1-*", region),
        Resource("ai-workload-config", "fam-1-*", region), Resource("endpoint", "fam-1-*", region),
        Resource("s3-prefix", f"s3://no-such-bucket-{aws.account()}/fam-1/", region),
    ]  # fmt: skip
    for one in families:
        mine.ledger.intend(one)
    assert sorted({one.name.split("/")[-1] or one.name.split("/")[-2] for one in alive(aws, families)}) == [
        "fam-1-a", "fam-1-a-build", "fam-1-a-models", "fam-1-a-role", "fam-1-b", "fam-1-b-build", "fam-1-b-models", "fam-1-b-role",
        "ml-container-creator-fam-1-a-async-error", "ml-container-creator-fam-1-b-async-error",
    ]  # fmt: skip
    assert mine.clean_up() == ()
    assert alive(aws, families) == []
    others = [Resource("iam-role", "fam-12-*", region), Resource("s3-prefix", f"s3://{bucket}/staging-jobs/fam-12-*", region)]
    others.append(Resource("sns-topic", "ml-container-creator-fam-12-*", region))
    assert len(alive(aws, others)) == 3


def test_the_shared_tag_goes_only_where_it_is_the_last_name_of_our_image(aws: Aws, life: Callable[[], Any], tmp_path: Path) -> None:
    mine, ecr, repository = life(), aws.client("ecr"), "shared-by-all"
    push_image(aws, repository, "#!/bin/sh\n", tmp_path / "image")
    image = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}])["images"][0]
    ecr.put_image(repositoryName=repository, imageManifest=image["imageManifest"], imageTag="latest")
    moved = Resource("shared-tag", f"{repository}:latest@{image['imageId']['imageDigest']}", aws.region)

    def tags() -> list[str]:
        return sorted(tag for one in ecr.describe_images(repositoryName=repository)["imageDetails"] for tag in one.get("imageTags", []))

    mine.ledger.intend(moved)
    assert (mine.clean_up(), tags()) == ((), ["latest", "v1"])  # another still names the image
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}])
    mine.ledger.intend(moved)
    assert (mine.clean_up(), tags()) == ((), [])
