"""SageMakerPublicHub: the models that can be fine-tuned, with the documents clients read their recipes from."""

from __future__ import annotations

import json
from typing import Any

from pytest_mlcc.localaws.models import MODELS, ModelSpec
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["PUBLIC_HUB", "base_model", "public_contents", "public_hub"]

PUBLIC_HUB = "SageMakerPublicHub"
_VERSION = "1.0.0"
_SCHEMA = "2.4.0"
_CREATED = 1764547200.0  # 2025-12-01: any fixed moment, so that listings page the same way every time
_BY_NAME = {spec.hub_name: spec for spec in MODELS}


def base_model(arn: str) -> ModelSpec:
    """The model that a ``hub-content`` ARN names. Raises AwsError for one that the hub does not hold."""
    name = arn.rpartition(":hub-content/")[2].split("/")[2]
    spec = _BY_NAME.get(name)
    if spec is None:
        raise AwsError("ValidationException", f"Base model {arn} does not exist or can not be customized.")
    return spec


def public_hub(region: str) -> Record:
    """The hub itself, as it is described."""
    return {
        "HubName": PUBLIC_HUB, "HubArn": f"arn:aws:sagemaker:{region}:aws:hub/{PUBLIC_HUB}", "HubDisplayName": "SageMaker Public Hub",
        "HubDescription": "Models that SageMaker offers to everyone.", "HubStatus": "InService", "HubSearchKeywords": [],
        "CreationTime": _CREATED, "LastModifiedTime": _CREATED,
    }  # fmt: skip


def public_contents(region: str) -> list[Record]:
    """All that the hub holds, as it is described."""
    return [_content(spec, region=region) for spec in MODELS]


def _content(spec: ModelSpec, *, region: str) -> Record:
    hub = f"arn:aws:sagemaker:{region}:aws:hub"
    return {
        "HubContentName": spec.hub_name, "HubContentType": "Model", "HubContentVersion": _VERSION,
        "HubContentArn": f"{hub}-content/{PUBLIC_HUB}/Model/{spec.hub_name}/{_VERSION}",
        "HubName": PUBLIC_HUB, "HubArn": f"{hub}/{PUBLIC_HUB}", "DocumentSchemaVersion": _SCHEMA,
        "HubContentDisplayName": spec.hf_id, "HubContentDescription": "", "HubContentStatus": "Available", "SupportStatus": "Supported",
        "HubContentSearchKeywords": ["@capability:fine-tuning"], "HubContentDocument": json.dumps(_document(spec, region=region)),
        "CreationTime": _CREATED, "LastModifiedTime": _CREATED,
    }  # fmt: skip


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
