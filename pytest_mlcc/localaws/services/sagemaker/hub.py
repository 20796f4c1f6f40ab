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
_LISTING = Listing(key="HubContentSummaries", name="HubContentName")
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
    """Describe and list the contents of the public hub; it can't be changed, as on AWS."""

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {"DescribeHubContent": self.describe, "ListHubContents": self.list_rows}

    def describe(self, call: Call) -> Mapping[str, Any]:
        """One content. Raises AwsError with the code ResourceNotFound, by which clients tell a wrong model name."""
        self._check_hub(call)
        name, version = call.params["HubContentName"], call.params.get("HubContentVersion", VERSION)
        spec = _BY_NAME.get(name)
        if spec is None or call.params["HubContentType"] != "Model" or version not in (VERSION, "*"):
            text = f"HubContent {name} of type {call.params['HubContentType']} and version {version} does not exist in hub {PUBLIC_HUB}."
            raise AwsError("ResourceNotFound", text)
        document = json.dumps(_document(spec, region=call.region))
        return {**_summary(spec, region=call.region), "HubContentDocument": document}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The contents of a type; only models are held."""
        self._check_hub(call)
        specs = MODELS if call.params["HubContentType"] == "Model" else ()
        return _LISTING.answer(call.params, [_summary(spec, region=call.region) for spec in specs])

    def _check_hub(self, call: Call) -> None:
        hub = call.params["HubName"].rpartition("/")[2]
        if hub != PUBLIC_HUB:
            raise AwsError("ResourceNotFound", f"Hub {hub} does not exist.")


def _summary(spec: ModelSpec, *, region: str) -> dict[str, Any]:
    hub = f"arn:aws:sagemaker:{region}:aws:hub"
    return {
        "HubContentName": spec.hub_name, "HubContentType": "Model", "HubContentVersion": VERSION,
        "HubContentArn": f"{hub}-content/{PUBLIC_HUB}/Model/{spec.hub_name}/{VERSION}",
        "HubName": PUBLIC_HUB, "HubArn": f"{hub}/{PUBLIC_HUB}", "DocumentSchemaVersion": _SCHEMA,
        "HubContentDisplayName": spec.hf_id, "HubContentDescription": "", "HubContentStatus": "Available",
        "HubContentSearchKeywords": ["@capability:fine-tuning"], "CreationTime": _CREATED, "LastModifiedTime": _CREATED,
    }  # fmt: skip
