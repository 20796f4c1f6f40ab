"""State machines, stacks and functions must reach the same builds, images and endpoints as every other client."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/mlcc-codebuild-role"
Runner = Callable[..., dict[str, Any]]


def _spec(command: str) -> str:
    return f"version: 0.2\nphases:\n  build:\n    commands:\n      - {command!r}\n"


@pytest.fixture
def project(local_aws: Any) -> Iterator[str]:
    name = f"sfn-{uuid.uuid4().hex[:8]}"
    local_aws.client("codebuild").create_project(
        name=name,
        source={"type": "NO_SOURCE", "buildspec": _spec('test "$WORD" = good')},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=ROLE,
    )
    yield name
    local_aws.client("codebuild").delete_project(name=name)


@pytest.fixture
def execute(local_aws: Any) -> Iterator[Runner]:
    """Run a state machine of these states (the first is where it starts) to its end; the execution."""
    states, machines = local_aws.client("stepfunctions"), []

    def run(definition: dict[str, Any], *, given: dict[str, Any] | None = None, wait: bool = True) -> dict[str, Any]:
        machine = states.create_state_machine(
            name=f"m-{uuid.uuid4().hex[:8]}", definition=json.dumps({"StartAt": next(iter(definition)), "States": definition}), roleArn=ROLE
        )["stateMachineArn"]
        machines.append(machine)
        execution = states.start_execution(stateMachineArn=machine, input=json.dumps(given or {}))["executionArn"]
        return _ended(states, execution) if wait else {"executionArn": execution}

    yield run
    for machine in machines:
        states.delete_state_machine(stateMachineArn=machine)


def _ended(states: Any, execution: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        described: dict[str, Any] = states.describe_execution(executionArn=execution)
        if described["status"] != "RUNNING":
            return described
        assert time.monotonic() < deadline, described
        time.sleep(0.05)


def _task(resource: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Task": {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, "End": True, **more}}


def _word(value: str) -> list[dict[str, str]]:
    return [{"Name": "WORD", "Value": value, "Type": "PLAINTEXT"}]


def test_a_build_is_waited_for_and_handed_on(local_aws: Any, project: str, execute: Runner) -> None:
    execution = execute(_task("codebuild:startBuild.sync", {"ProjectName": project, "EnvironmentVariablesOverride": _word("good")}))
    assert execution["status"] == "SUCCEEDED", execution
    build = json.loads(execution["output"])["Build"]
    assert (build["BuildStatus"], build["BuildComplete"], build["ProjectName"]) == ("SUCCEEDED", True, project)
    assert build["EndTime"] >= build["StartTime"] > time.time() * 1000 - 60_000, "optimized integrations give milliseconds"
    ours = local_aws.client("codebuild").batch_get_builds(ids=[build["Id"]])["builds"][0]
    assert ours["buildStatus"] == "SUCCEEDED", "the build ran where every client sees it"


def test_a_failed_build_fails_the_execution_with_its_story(project: str, execute: Runner) -> None:
    parameters = {"ProjectName": project, "EnvironmentVariablesOverride": _word("bad")}
    execution = execute(_task("codebuild:startBuild.sync", parameters))
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    build = json.loads(execution["cause"])["Build"]
    assert build["BuildStatus"] == "FAILED"
    contexts = [phase.get("Contexts") for phase in build["Phases"] if phase["PhaseType"] == "BUILD"]
    assert contexts[0][0]["StatusCode"] == "COMMAND_EXECUTION_ERROR"
    caught = {"Catch": [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.why", "Next": "Tidy"}], "End": None}
    task = {key: value for key, value in {**_task("codebuild:startBuild.sync", parameters)["Task"], **caught}.items() if value is not None}
    tidied = execute({"Task": task, "Tidy": {"Type": "Pass", "End": True}})
    assert tidied["status"] == "SUCCEEDED"
    assert json.loads(tidied["output"])["why"]["Error"] == "States.TaskFailed"


def test_started_without_waiting_then_stopped(local_aws: Any, project: str, execute: Runner) -> None:
    states = _task("codebuild:startBuild", {"ProjectName": project, "BuildspecOverride": _spec("sleep 300")}, Next="Stop")
    states["Task"].pop("End")
    states |= {
        "Stop": {"Type": "Task", "Resource": "arn:aws:states:::codebuild:stopBuild", "Parameters": {"Id.$": "$.Build.Id"}, "End": True}
    }
    execution = execute(states)
    assert execution["status"] == "SUCCEEDED", execution
    build = json.loads(execution["output"])["Build"]
    assert local_aws.client("codebuild").batch_get_builds(ids=[build["Id"]])["builds"][0]["buildStatus"] == "STOPPED"


@pytest.mark.parametrize("how", ["stop", "timeout"])
def test_a_build_nobody_waits_for_any_more_is_stopped(local_aws: Any, project: str, execute: Runner, how: str) -> None:
    codebuild, states = local_aws.client("codebuild"), local_aws.client("stepfunctions")
    limit = {"TimeoutSeconds": 1} if how == "timeout" else {}
    started = execute(
        _task("codebuild:startBuild.sync", {"ProjectName": project, "BuildspecOverride": _spec("sleep 300")}, **limit), wait=False
    )
    deadline = time.monotonic() + 20
    while not (ids := codebuild.list_builds_for_project(projectName=project)["ids"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if how == "stop":
        states.stop_execution(executionArn=started["executionArn"])
    ended = _ended(states, started["executionArn"])
    assert (ended["status"], ended.get("error")) == (("ABORTED", None) if how == "stop" else ("FAILED", "States.Timeout"))
    while not (build := codebuild.batch_get_builds(ids=ids)["builds"][0])["buildComplete"]:
        assert time.monotonic() < deadline, build
        time.sleep(0.05)
    assert build["buildStatus"] == "STOPPED"


@pytest.mark.parametrize(
    ("resource", "parameters", "error", "cause"),
    [
        ("codebuild:startBuild.sync", {"ProjectName": "none"}, "CodeBuild.ResourceNotFoundException", "Project cannot be found"),
        ("codebuild:startBuild", {"ProjektName": "x"}, "States.Runtime", 'The field "ProjektName" is not supported by Step Functions'),
        ("codebuild:startBuild", {}, "States.Runtime", 'The field "ProjectName" is required but was missing'),
        ("codebuild:batchGetBuilds", {"Ids": ["a:1"]}, "States.Runtime", "not recognized"),
        ("codebuild:startBuild.waitForTaskToken", {"ProjectName": "x"}, "States.Runtime", "startBuild.waitForTaskToken is not recognized"),
        ("aws-sdk:codebuild:startBuild.sync", {"ProjectName": "x"}, "States.Runtime", "not recognized"),
        ("aws-sdk:ecr:describeImages", {"RepositoryName": "none"}, "Ecr.RepositoryNotFoundException", "does not exist in the registry"),
        ("aws-sdk:sagemaker:describeEndpoint", {"EndpointName": "none"}, "SageMaker.SageMakerException", "Could not find endpoint"),
        (
            "sagemaker:createEndpoint",
            {"EndpointName": "n", "EndpointConfigName": "n"},
            "SageMaker.AmazonSageMakerException",
            "Could not find",
        ),
    ],
)
def test_what_aws_refuses_is_refused_by_its_name(
    execute: Runner, resource: str, parameters: dict[str, Any], error: str, cause: str
) -> None:
    execution = execute(_task(resource, parameters))
    assert (execution["status"], execution["error"]) == ("FAILED", error), execution.get("cause")
    assert cause in execution["cause"]


def test_sdk_tasks_see_our_services(local_aws: Any, project: str, execute: Runner) -> None:
    got = execute(_task("aws-sdk:codebuild:batchGetProjects", {"Names": [project]}))
    described = json.loads(got["output"])["Projects"][0]
    assert (described["Name"], described["Environment"]["ComputeType"]) == (project, "BUILD_GENERAL1_SMALL")
    assert described["Created"].endswith("Z"), "SDK integrations give times as text"
    group = f"g-{uuid.uuid4().hex[:8]}"
    made = execute(_task("aws-sdk:sagemaker:createModelPackageGroup", {"ModelPackageGroupName": group}))
    assert json.loads(made["output"])["ModelPackageGroupArn"].endswith(f"/{group}")
    local_aws.client("sagemaker").delete_model_package_group(ModelPackageGroupName=group)


def test_an_endpoint_is_made_and_invoked_by_states(local_aws: Any, image: str, execute: Runner, wait_until: Callable[..., str]) -> None:
    sagemaker, name = local_aws.client("sagemaker"), f"sfn-{uuid.uuid4().hex[:8]}"
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    states = {
        "Model": {"Type": "Task", "Resource": "arn:aws:states:::sagemaker:createModel", "ResultPath": None, "Next": "Config",
                  "Parameters": {"ModelName": name, "PrimaryContainer": {"Image": image}, "ExecutionRoleArn": ROLE}},
        "Config": {"Type": "Task", "Resource": "arn:aws:states:::sagemaker:createEndpointConfig", "ResultPath": None, "Next": "Endpoint",
                   "Parameters": {"EndpointConfigName": name, "ProductionVariants": [variant]}},
        "Endpoint": {"Type": "Task", "Resource": "arn:aws:states:::sagemaker:createEndpoint", "End": True,
                     "Parameters": {"EndpointName": name, "EndpointConfigName": name}},
    }  # fmt: skip
    try:
        assert execute(states)["status"] == "SUCCEEDED"
        assert wait_until(lambda: sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"], "InService", "Failed") == "InService"
        asked = {"EndpointName": name, "ContentType": "application/json", "Body": "{}"}
        invoked = execute(_task("aws-sdk:sagemakerruntime:invokeEndpoint", asked))
        assert "pid" in json.loads(json.loads(invoked["output"])["Body"])
    finally:
        sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.delete_endpoint_config(EndpointConfigName=name)
        sagemaker.delete_model(ModelName=name)


_TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Parameters: {Name: {Type: String}, Words: {Type: String, Default: one}}
Resources:
  Project:
    Type: AWS::CodeBuild::Project
    Properties:
      Name: !Ref Name
      Description: !Ref Words
      ServiceRole: arn:aws:iam::123456789012:role/mlcc-codebuild-role
      TimeoutInMinutes: "15"
      Artifacts: {Type: NO_ARTIFACTS}
      Environment:
        Type: LINUX_CONTAINER
        Image: aws/codebuild/standard:7.0
        ComputeType: BUILD_GENERAL1_SMALL
        PrivilegedMode: "true"
        EnvironmentVariables: [{Name: REPO, Value: !GetAtt Images.RepositoryUri}]
      Source: {Type: NO_SOURCE, BuildSpec: "version: 0.2\\nphases:\\n  build:\\n    commands: ['echo repo=$REPO']\\n"}
      Tags: [{Key: a, Value: b}]
  Images:
    Type: AWS::ECR::Repository
    Properties:
      EmptyOnDelete: true
      ImageTagMutability: IMMUTABLE
      ImageScanningConfiguration: {ScanOnPush: "true"}
      Tags: [{Key: c, Value: d}]
  Group:
    Type: AWS::SageMaker::ModelPackageGroup
    Properties: {ModelPackageGroupName: !Ref Name}
Outputs:
  Repository: {Value: !Ref Images}
  Project: {Value: !GetAtt Project.Arn}
  Group: {Value: !Ref Group}
"""


def test_a_stack_makes_updates_and_removes_real_resources(local_aws: Any) -> None:
    stacks, codebuild, ecr = local_aws.client("cloudformation"), local_aws.client("codebuild"), local_aws.client("ecr")
    name = f"st-{uuid.uuid4().hex[:8]}"
    given = [{"ParameterKey": "Name", "ParameterValue": name}]
    stacks.create_stack(StackName=name, TemplateBody=_TEMPLATE, Parameters=given)
    stack = _stack(stacks, name)
    assert stack["StackStatus"] == "CREATE_COMPLETE", stacks.describe_stack_events(StackName=name)["StackEvents"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    project = codebuild.batch_get_projects(names=[name])["projects"][0]
    assert (project["arn"], project["timeoutInMinutes"]) == (outputs["Project"], 15)
    assert project["environment"]["privilegedMode"] is True
    assert {"key": "a", "value": "b"} in project["tags"]
    repository = ecr.describe_repositories(repositoryNames=[outputs["Repository"]])["repositories"][0]
    assert (repository["imageTagMutability"], repository["imageScanningConfiguration"]) == ("IMMUTABLE", {"scanOnPush": True})
    build = codebuild.start_build(projectName=name)["build"]["id"]
    deadline = time.monotonic() + 20
    while not codebuild.batch_get_builds(ids=[build])["builds"][0]["buildComplete"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert codebuild.batch_get_builds(ids=[build])["builds"][0]["buildStatus"] == "SUCCEEDED"
    stacks.update_stack(StackName=name, TemplateBody=_TEMPLATE, Parameters=[*given, {"ParameterKey": "Words", "ParameterValue": "two"}])
    assert _stack(stacks, name)["StackStatus"] == "UPDATE_COMPLETE"
    assert codebuild.batch_get_projects(names=[name])["projects"][0]["description"] == "two"
    stacks.delete_stack(StackName=name)
    while name in str(stacks.list_stacks(StackStatusFilter=["DELETE_IN_PROGRESS"])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert codebuild.batch_get_projects(names=[name])["projectsNotFound"] == [name]
    with pytest.raises(ClientError, match="does not exist"):
        ecr.describe_repositories(repositoryNames=[outputs["Repository"]])
    listed = local_aws.client("sagemaker").list_model_package_groups(NameContains=name)["ModelPackageGroupSummaryList"]
    assert listed == []


def _stack(stacks: Any, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        stack: dict[str, Any] = stacks.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            return stack
        assert time.monotonic() < deadline, stack
        time.sleep(0.05)


def test_a_stack_whose_project_is_refused_rolls_back_with_the_reason(local_aws: Any) -> None:
    stacks, name = local_aws.client("cloudformation"), f"st-{uuid.uuid4().hex[:8]}"
    template = _TEMPLATE.replace('"version: 0.2', '"').replace("BuildSpec:", "Nothing:")
    stacks.create_stack(StackName=name, TemplateBody=template, Parameters=[{"ParameterKey": "Name", "ParameterValue": name}])
    assert _stack(stacks, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    reasons = " ".join(event.get("ResourceStatusReason", "") for event in stacks.describe_stack_events(StackName=name)["StackEvents"])
    assert "InvalidInputException" in reasons
    stacks.delete_stack(StackName=name)


def test_a_function_that_raises_is_caught_by_its_exceptions_name(local_aws: Any, execute: Runner) -> None:
    functions, name = local_aws.client("lambda"), f"f-{uuid.uuid4().hex[:8]}"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "class Odd(Exception): pass\n\ndef handler(event, context):\n    raise Odd('first\\nsecond')\n")
    functions.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=ROLE, Code={"ZipFile": packed.getvalue()}
    )
    try:
        answer = functions.invoke(FunctionName=name)
        told = json.loads(answer["Payload"].read())
        assert (answer["FunctionError"], told["errorType"], told["errorMessage"]) == ("Unhandled", "Odd", "first\nsecond")
        assert "in handler" in told["stackTrace"][0]
        task = _task("lambda:invoke", {"FunctionName": name}, Catch=[{"ErrorEquals": ["Odd"], "Next": "Caught"}])
        assert execute({**task, "Caught": {"Type": "Pass", "End": True}})["status"] == "SUCCEEDED"
    finally:
        functions.delete_function(FunctionName=name)


def test_a_training_job_that_fails_fails_its_state_with_its_story(local_aws: Any, execute: Runner) -> None:
    hub = "arn:aws:sagemaker:us-west-2:aws:hub-content/SageMakerPublicHub/Model/huggingface-reasoning-qwen3-06b/1.0.0"
    name = f"sfn-{uuid.uuid4().hex[:8]}"
    local_aws.client("s3").put_object(Bucket="mlcc-artifacts-123456789012-us-west-2", Key=f"{name}.jsonl", Body=b"no row")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://mlcc-artifacts-123456789012-us-west-2/{name}.jsonl"}
    parameters = {
        "TrainingJobName": name, "RoleArn": ROLE, "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": "s3://mlcc-artifacts-123456789012-us-west-2/out/"},
        "ServerlessJobConfig": {"BaseModelArn": hub, "JobType": "FineTuning", "CustomizationTechnique": "SFT", "Peft": "LORA"},
    }  # fmt: skip
    execution = execute(_task("sagemaker:createTrainingJob.sync", parameters))
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed"), execution.get("cause")
    told = json.loads(execution["cause"])
    assert (told["TrainingJobName"], told["TrainingJobStatus"]) == (name, "Failed")
    assert told["FailureReason"]


_ENDPOINT = """
Parameters: {Image: {Type: String}}
Resources:
  Model:
    Type: AWS::SageMaker::Model
    Properties:
      ExecutionRoleArn: arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role
      PrimaryContainer: {Image: !Ref Image, Environment: {WORD: one}}
  Config:
    Type: AWS::SageMaker::EndpointConfig
    Properties:
      ProductionVariants:
        - {VariantName: v, ModelName: !GetAtt Model.ModelName, InstanceType: ml.m5.large, InitialInstanceCount: "1"}
  Endpoint:
    Type: AWS::SageMaker::Endpoint
    Properties: {EndpointConfigName: !GetAtt Config.EndpointConfigName, EndpointName: !Sub "${AWS::StackName}-Named"}
Outputs:
  Name: {Value: !GetAtt Endpoint.EndpointName}
"""


def test_a_stack_waits_for_its_endpoint_and_takes_it_away(local_aws: Any, image: str) -> None:
    stacks, name = local_aws.client("cloudformation"), f"st-{uuid.uuid4().hex[:8]}"
    stacks.create_stack(StackName=name, TemplateBody=_ENDPOINT, Parameters=[{"ParameterKey": "Image", "ParameterValue": image}])
    stack = _stack(stacks, name)
    reasons = [event.get("ResourceStatusReason") for event in stacks.describe_stack_events(StackName=name)["StackEvents"]]
    assert stack["StackStatus"] == "CREATE_COMPLETE", reasons
    endpoint = stack["Outputs"][0]["OutputValue"]
    answer = local_aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body="{}")
    assert "pid" in json.loads(answer["Body"].read())
    stacks.delete_stack(StackName=name)
    deadline = time.monotonic() + 20
    while name in str(stacks.list_stacks(StackStatusFilter=["DELETE_IN_PROGRESS"])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ClientError, match="Could not find"):
        local_aws.client("sagemaker").describe_endpoint(EndpointName=endpoint)
