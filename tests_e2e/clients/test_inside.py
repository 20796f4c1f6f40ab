"""State machines and stacks, started from outside, that use the services from inside: as a pipeline of a team does."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import WaiterError

CLIENT = "boto3"
QUICK = {"Delay": 0.2, "MaxAttempts": 300}


def _run(account: Any, name: str, states: dict[str, Any], start: str) -> dict[str, Any]:
    """Run a state machine to its end; its execution."""
    client = boto3.client("stepfunctions")
    definition = json.dumps({"StartAt": start, "States": states})
    machine = client.create_state_machine(name=name, definition=definition, roleArn=account.role)["stateMachineArn"]
    execution = client.start_execution(stateMachineArn=machine)["executionArn"]
    while (found := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
        assert len(client.get_execution_history(executionArn=execution)["events"]) < 500
    client.delete_state_machine(stateMachineArn=machine)
    return dict(found)


@pytest.fixture
def project(account: Any, name: str) -> Any:
    client = boto3.client("codebuild")
    spec = "version: 0.2\nphases:\n  build:\n    commands:\n      - echo built for $WHO\n"
    client.create_project(
        name=name, source={"type": "NO_SOURCE", "buildspec": spec}, artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=f"arn:aws:iam::{account.account}:role/mlcc-codebuild-role",
    )  # fmt: skip
    yield name
    client.delete_project(name=name)


def test_a_state_machine_builds_trains_and_deploys(account: Any, project: str, name: str) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": account.put(f"{name}/train/rows.txt", "1\n2\n")}
    training = {
        "TrainingJobName": name, "RoleArn": account.role,
        "AlgorithmSpecification": {"TrainingImage": account.image, "TrainingInputMode": "File"},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{account.bucket}/{name}"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }  # fmt: skip
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    model = {"ModelName": name, "PrimaryContainer": {"Image": account.image}, "ExecutionRoleArn": account.role}

    def task(resource: str, parameters: dict[str, Any], then: str, **more: Any) -> dict[str, Any]:
        where = {"Next": then} if then else {"End": True}
        return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, **where, **more}

    found = _run(account, name, {
        "Build": task("codebuild:startBuild.sync", {"ProjectName": project, "EnvironmentVariablesOverride": [
            {"Name": "WHO", "Value": "a machine"}]}, "Train"),
        "Train": task("sagemaker:createTrainingJob.sync", training, "Model"),
        "Model": task("sagemaker:createModel", model, "Config"),
        "Config": task("sagemaker:createEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]}, "Endpoint"),
        "Endpoint": task("sagemaker:createEndpoint", {"EndpointName": name, "EndpointConfigName": name}, "Look"),
        "Look": task("aws-sdk:sagemaker:describeEndpoint", {"EndpointName": name}, "Up"),
        "Up": {"Type": "Choice", "Choices": [{"Variable": "$.EndpointStatus", "StringEquals": "InService", "Next": "Done"}],
               "Default": "Pause"},
        "Pause": {"Type": "Wait", "Seconds": 1, "Next": "Look"},
        "Done": {"Type": "Succeed"},
    }, "Build")  # fmt: skip
    assert found["status"] == "SUCCEEDED", found
    assert json.loads(found["output"])["EndpointStatus"] == "InService"
    sagemaker = boto3.client("sagemaker")
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Completed"
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)


def test_a_task_that_fails_is_caught_by_its_error(account: Any, project: str, name: str) -> None:
    broken = {"ProjectName": project, "BuildspecOverride": "version: 0.2\nphases:\n  build:\n    commands:\n      - exit 3\n"}
    found = _run(account, name, {
        "Build": {"Type": "Task", "Resource": "arn:aws:states:::codebuild:startBuild.sync", "Parameters": broken, "End": True,
                  "Catch": [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "Caught"}]},
        "Caught": {"Type": "Pass", "End": True},
    }, "Build")  # fmt: skip
    assert found["status"] == "SUCCEEDED", found
    assert "BuildStatus" in json.loads(found["output"])["error"]["Cause"]


def _settled(cloudformation: Any, name: str, waiter: str) -> None:
    """Wait for a stack; its events are the failure's text."""
    try:
        cloudformation.get_waiter(waiter).wait(StackName=name, WaiterConfig=QUICK)
    except WaiterError:
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        pytest.fail("\n".join(f"{one['ResourceStatus']} {one.get('ResourceStatusReason', '')}" for one in events))


def test_a_stack_makes_changes_and_removes(account: Any, name: str) -> None:
    cloudformation, sagemaker = boto3.client("cloudformation"), boto3.client("sagemaker")

    def template(instance: str) -> str:
        variant = {"VariantName": "AllTraffic", "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]}, "InstanceType": instance,
                   "InitialInstanceCount": 1}  # fmt: skip
        return json.dumps({"Resources": {
            "Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": name, "EmptyOnDelete": True}},
            "Model": {"Type": "AWS::SageMaker::Model", "Properties": {
                "ModelName": name, "ExecutionRoleArn": account.role, "PrimaryContainer": {"Image": account.image}}},
            "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [variant]}},
            "Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": {
                "EndpointName": name, "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]}}},
        }})  # fmt: skip

    cloudformation.create_stack(StackName=name, TemplateBody=template("ml.m5.large"))
    _settled(cloudformation, name, "stack_create_complete")
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"
    first = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    cloudformation.update_stack(StackName=name, TemplateBody=template("ml.m5.xlarge"))
    _settled(cloudformation, name, "stack_update_complete")
    second = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    assert first != second
    cloudformation.delete_stack(StackName=name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=QUICK)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)


def test_a_stack_fails_with_the_services_own_words(account: Any, name: str) -> None:
    cloudformation = boto3.client("cloudformation")
    wrong = {"Resources": {"Model": {"Type": "AWS::SageMaker::Model", "Properties": {
        "ModelName": "no_underscores", "ExecutionRoleArn": account.role, "PrimaryContainer": {"Image": account.image}}}}}  # fmt: skip
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(wrong))
    with pytest.raises(WaiterError):
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=QUICK)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    reasons = " ".join(event.get("ResourceStatusReason", "") for event in events)
    assert "failed to satisfy constraint" in reasons
    cloudformation.delete_stack(StackName=name)
