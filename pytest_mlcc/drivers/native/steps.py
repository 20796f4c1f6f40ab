"""What each stage would do, for a dry run: the API calls with the arguments that matter. Calls nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.drivers.native.names import BUILD_PROJECT, REPOSITORY, VARIANT, Names
from pytest_mlcc.lifecycle.ports import Step

__all__ = ["steps"]


def steps(stage: str, entry: Entry, names: Names) -> Sequence[Step]:
    """The steps of one stage; a stage that this driver does not do says so."""
    if stage.startswith("tune-"):
        return _tune(entry, names) if stage == "tune-sft" else (Step("none", f"the native driver does not do {stage}"),)
    describe = _STAGES.get(stage)
    return describe(entry, names) if describe else (Step("none", f"the native driver does not do {stage}"),)


def _generate(entry: Entry, _: Names) -> Sequence[Step]:
    return (Step("write Dockerfile, serve, buildspec.yml, config.json", f"for {entry.args.model_name}"),)


def _build(_: Entry, names: Names) -> Sequence[Step]:
    return (
        Step("s3:PutObject", f"{names.folder}source.zip"),
        Step("codebuild:StartBuild", f"projectName={BUILD_PROJECT} IMAGE_TAG={names.build_tag}"),
        Step("codebuild:BatchGetBuilds", "until SUCCEEDED"),
    )


def _push(_: Entry, names: Names) -> Sequence[Step]:
    image = f"{REPOSITORY}:{names.release_tag}"
    return (
        Step("ecr:BatchGetImage", f"{REPOSITORY}:{names.build_tag}"),
        Step("ecr:PutImage", image),
        Step("ecr:DescribeImages", f"{image}, digest equal to the build's"),
    )


def _deploy(entry: Entry, names: Names) -> Sequence[Step]:
    return (
        Step(
            "sagemaker:CreateEndpointConfig",
            f"{names.endpoint_config} {VARIANT} InstanceType={entry.args.instance_type} InitialInstanceCount=1",
        ),
        Step("sagemaker:CreateEndpoint", names.endpoint),
        Step("sagemaker:DescribeEndpoint", "until InService"),
        Step("sagemaker:CreateInferenceComponent", f"{names.component} Image={names.registry}/{REPOSITORY}@<digest of the build>"),
        Step("sagemaker:DescribeInferenceComponent", "until InService"),
    )


def _test(_: Entry, names: Names) -> Sequence[Step]:
    return (Step("sagemaker-runtime:InvokeEndpoint", f"{names.endpoint} InferenceComponentName={names.component}: one chat completion"),)


def _tune(entry: Entry, names: Names) -> Sequence[Step]:
    config = entry.tune
    what = f"{config.tune_id} ({config.training_type}) on {config.dataset}" if config else "no tuneConfig"
    return (
        Step("sagemaker:CreateModelPackageGroup", names.package_group),
        Step("sagemaker SDK SFTTrainer.train(wait=False)", f"{what}, output {names.folder}tune/"),
        Step("sagemaker:CreateTrainingJob", f"{names.job_stem}-<time>"),
        Step("sagemaker:DescribeTrainingJob", "until Completed"),
    )


def _add_adapter(_: Entry, names: Names) -> Sequence[Step]:
    return (
        Step("s3:PutObject", f"{names.folder}adapter/adapter.tar.gz, from the job's checkpoints/hf/"),
        Step("sagemaker:CreateInferenceComponent", f"{names.adapter} BaseInferenceComponentName={names.component}"),
        Step("sagemaker:DescribeInferenceComponent", "until InService"),
    )


def _test_adapter(entry: Entry, names: Names) -> Sequence[Step]:
    dataset = entry.tune.dataset if entry.tune else "no dataset"
    return (Step("sagemaker-runtime:InvokeEndpoint", f"{names.adapter} and {names.component}: answers and losses on {dataset}"),)


def _clean(_: Entry, names: Names) -> Sequence[Step]:
    """In the order of the cleaner."""
    return (
        Step("sagemaker:DeleteInferenceComponent", f"{names.adapter}, then {names.component}"),
        Step("sagemaker:DeleteEndpoint", names.endpoint),
        Step("sagemaker:DeleteEndpointConfig", names.endpoint_config),
        Step("ecr:BatchDeleteImage", f"{REPOSITORY}:{names.release_tag}, {REPOSITORY}:{names.build_tag}"),
        Step("sagemaker:DeleteModelPackageGroup", f"{names.package_group}, its packages first"),
        Step("s3:DeleteObjects", names.folder),
    )


_STAGES: Mapping[str, Callable[[Entry, Names], Sequence[Step]]] = {
    "generate": _generate,
    "build": _build,
    "push": _push,
    "deploy": _deploy,
    "test": _test,
    "adapter-add": _add_adapter,
    "test-adapter": _test_adapter,
    "clean": _clean,
}
