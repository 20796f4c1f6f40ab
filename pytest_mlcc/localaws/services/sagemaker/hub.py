"""SageMakerPublicHub: the models that can be fine-tuned, with the documents clients read their recipes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.models import MODELS, ModelSpec
from pytest_mlcc.localaws.services.sagemaker.resources import Listing
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["PUBLIC_HUB", "VERSION", "Hub", "base_model"]

PUBLIC_HUB = "SageMakerPublicHub"
VERSION = "1.0.0"
_SCHEMA = "2.4.0"
_CREATED = 1764547200.0  # 2025-12-01: any fixed moment, so that listings page the same way every time
_CONTENTS = Listing(key="HubContentSummaries", name="HubContentName", status="HubContentStatus")
_VERSIONS = Listing(key="HubContentSummaries", name="HubContentVersion", status="HubContentStatus")
_HUBS = Listing(key="HubSummaries", name="HubName", status="HubStatus")
_BY_NAME = {spec.hub_name: spec for spec in MODELS}


def base_model(arn: str) -> ModelSpec:
    """The model that a ``hub-content`` ARN names. Raises AwsError for one that the hub does not hold."""
    name = arn.rpartition(":hub-content/")[2].split("/")[2]
    spec = _BY_NAME.get(name)
    if spec is None:
        raise AwsError("ValidationException", f"Base model {arn} does not exist or can not be customized.")
    return spec


def _document(spec: ModelSpec, *, region: str) -> dict[str, Any]:
    """What the sagemaker SDK's trainers read; recipes are objects of the bucket that the local AWS is seeded with."""
    bucket = f"jumpstart-cache-prod-{region}"
    recipe = f"s3://{bucket}/recipes/{spec.hub_name}-sft-lora"
    return {
        "Url": f"https://huggingface.co/{spec.hf_id}",
        "MinSdkVersion": "2.189.0",
        "TrainingSupported": True,
        "IncrementalTrainingSupported": False,
        "GatedBucket": spec.gated,
        "HostingArtifactUri": f"s3://{bucket}/{spec.hub_name}/artifacts/inference/",
        "RecipeCollection": [
            {
                "DisplayName": f"{spec.hf_id} LoRA SFT",
                "Name": f"{spec.hub_name}-sft-lora",
                "CustomizationTechnique": "SFT",
                "Peft": "LORA",
                "SequenceLength": "4K",
                "Hardware": "GPU",
                "InstanceCount": 1,
                "SmtjRecipeTemplateS3Uri": f"{recipe}_template.yaml",
                "SmtjOverrideParamsS3Uri": f"{recipe}_override_params.json",
            }
        ],
    }


class Hub:
    """Describe and list the public hub and its contents; it can't be changed, as on AWS."""

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "DescribeHub": self.describe_hub,
            "ListHubs": self.list_hubs,
            "DescribeHubContent": self.describe,
            "ListHubContents": self.list_rows,
            "ListHubContentVersions": self.list_versions,
        }

    def describe_hub(self, call: Call) -> Mapping[str, Any]:
        """The public hub. Raises AwsError with the code ResourceNotFound for any other."""
        self._check_hub(call)
        return _hub(region=call.region)

    def list_hubs(self, call: Call) -> Mapping[str, Any]:
        """The public hub, if it is what the request looks for."""
        return _HUBS.answer(call.params, [_hub(region=call.region)])

    def describe(self, call: Call) -> Mapping[str, Any]:
        """One content. Raises AwsError with the code ResourceNotFound, by which clients tell a wrong model name."""
        self._check_hub(call)
        version = call.params.get("HubContentVersion", VERSION)
        spec = self._spec(call, version)
        document = json.dumps(_document(spec, region=call.region))
        return {**_summary(spec, region=call.region), "HubContentDocument": document}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The contents of a type; only models are held."""
        self._check_hub(call)
        specs = MODELS if call.params["HubContentType"] == "Model" else ()
        rows = [_summary(spec, region=call.region) for spec in specs if _readable(call)]
        return _CONTENTS.answer(call.params, rows)

    def list_versions(self, call: Call) -> Mapping[str, Any]:
        """The versions of one content. Raises AwsError with the code ResourceNotFound for one that is not held."""
        self._check_hub(call)
        row = _summary(self._spec(call, VERSION), region=call.region)
        new_enough = _number(call.params.get("MinVersion", VERSION)) <= _number(VERSION)
        return _VERSIONS.answer(call.params, [row] if new_enough and _readable(call) else [])

    def _spec(self, call: Call, version: str) -> ModelSpec:
        name, kind = call.params["HubContentName"], call.params["HubContentType"]
        spec = _BY_NAME.get(name)
        if spec is None or kind != "Model" or version not in (VERSION, "*"):
            text = f"HubContent {name} of type {kind} and version {version} does not exist in hub {PUBLIC_HUB}."
            raise AwsError("ResourceNotFound", text)
        return spec

    def _check_hub(self, call: Call) -> None:
        hub = call.params["HubName"].rpartition("/")[2]
        if hub != PUBLIC_HUB:
            raise AwsError("ResourceNotFound", f"Hub {hub} does not exist.")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _readable(call: Call) -> bool:
    """Whether the client says that it understands documents of our schema version; one that says nothing does."""
    return _number(call.params.get("MaxSchemaVersion", _SCHEMA)) >= _number(_SCHEMA)


def _hub(*, region: str) -> dict[str, Any]:
    return {
        "HubName": PUBLIC_HUB, "HubArn": f"arn:aws:sagemaker:{region}:aws:hub/{PUBLIC_HUB}", "HubDisplayName": "SageMaker Public Hub",
        "HubDescription": "Models that SageMaker offers to everyone.", "HubStatus": "InService", "HubSearchKeywords": [],
        "CreationTime": _CREATED, "LastModifiedTime": _CREATED,
    }  # fmt: skip


def _summary(spec: ModelSpec, *, region: str) -> dict[str, Any]:
    hub = f"arn:aws:sagemaker:{region}:aws:hub"
    return {
        "HubContentName": spec.hub_name, "HubContentType": "Model", "HubContentVersion": VERSION,
        "HubContentArn": f"{hub}-content/{PUBLIC_HUB}/Model/{spec.hub_name}/{VERSION}",
        "HubName": PUBLIC_HUB, "HubArn": f"{hub}/{PUBLIC_HUB}", "DocumentSchemaVersion": _SCHEMA,
        "HubContentDisplayName": spec.hf_id, "HubContentDescription": "", "HubContentStatus": "Available", "SupportStatus": "Supported",
        "HubContentSearchKeywords": ["@capability:fine-tuning"], "CreationTime": _CREATED, "LastModifiedTime": _CREATED,
    }  # fmt: skip
