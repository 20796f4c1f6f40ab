"""Rules that hold an entry against the companion files: models that can be tuned, instances, deployment configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_mlcc.catalog.draft import Draft
from pytest_mlcc.catalog.entry import DeploymentConfig, Instance, TuneModel
from pytest_mlcc.catalog.mistake import show
from pytest_mlcc.catalog.rules import Finding
from pytest_mlcc.catalog.suggest import closest, did_you_mean

__all__ = ["CROSS_RULES", "CROSS_WARNINGS", "CrossRule", "Facts"]

TIGHT = 0.6
"""Share of GPU memory above which weights leave too little for the KV cache and adapters: 7-8B in bf16 on 24 GB ran out of
memory in ml-container-creator's own runs (16 of 24 GB is 0.67)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the companion files say. A part is None where its file could not be used, which is a mistake of its own."""

    models: Mapping[str, TuneModel] | None = None
    tune_regions: tuple[str, ...] = ()
    instances: Mapping[str, Instance] | None = None
    regions: tuple[str, ...] = ()
    deployment_configs: Mapping[str, DeploymentConfig] | None = None
    by_hugging_face_id: Mapping[str, TuneModel] = field(default_factory=dict)

    def model_of(self, draft: Draft) -> TuneModel | None:
        """The model in the entry's args, if it is one that can be tuned."""
        return self.by_hugging_face_id.get(draft.flags.get("model-name") or "")

    def instance_of(self, draft: Draft) -> Instance | None:
        """The instance type in the entry's args, if it is known."""
        return (self.instances or {}).get(draft.flags.get("instance-type") or "")

    def config_of(self, draft: Draft) -> DeploymentConfig | None:
        """The deployment configuration in the entry's args, if it is known."""
        return (self.deployment_configs or {}).get(draft.flags.get("deployment-config") or "")


CrossRule = Callable[[Draft, Facts], Iterator[Finding]]


def server_is_known(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """``--deployment-config`` names a configuration, and what it needs stands in args."""
    name = draft.flags.get("deployment-config")
    if name is None or facts.deployment_configs is None:
        return
    config = facts.deployment_configs.get(name)
    if config is None:
        known = tuple(facts.deployment_configs)
        yield ("args",), f"{show(name)} is not a deployment configuration", did_you_mean(name, known)
        return
    for flag in config.needs_flags:
        if draft.flags.get(flag) is None:
            yield ("args",), f"{name} needs --{flag}", f"add --{flag}=<value>"


def instance_is_known(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """``--instance-type`` stands in instances.json."""
    name = draft.flags.get("instance-type")
    if name is None or facts.instances is None or name in facts.instances:
        return
    hint = did_you_mean(name, tuple(facts.instances)) or "add it to instances.json"
    yield ("args",), f"{show(name)} is not a known instance type", hint


def region_is_known(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """``--region`` is a region of AWS, and for a tune step one where open-weight models can be tuned."""
    region = draft.flags.get("region")
    if region is None:
        return
    if facts.instances is not None and region not in facts.regions:
        yield ("args",), f"{show(region)} is not a known region", did_you_mean(region, facts.regions)
    elif draft.tune_steps and facts.models is not None and region not in facts.tune_regions:
        hint = "one of: " + ", ".join(facts.tune_regions)
        yield ("args",), f"open-weight models cannot be tuned in {region}", hint


def tune_model_is_known(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """``tuneId`` is a model of tune.json, and the one that args deploy."""
    tune_id = draft.tune_value("tuneId")
    if tune_id is None or facts.models is None:
        return
    deployed, right = draft.flags.get("model-name"), facts.model_of(draft)
    place = ("tuneConfig", "tuneId")
    if tune_id not in facts.models:
        yield place, f"{show(tune_id)} is not a model of tune.json", _right_tune_id(tune_id, right, facts)
    elif deployed is None and not _will_be_missed(draft, facts):
        yield place, f'"{tune_id}" belongs to no --model-name', f"add --model-name={facts.models[tune_id].hugging_face_id}"
    elif deployed is not None and facts.models[tune_id].hugging_face_id != deployed:
        message = f'"{tune_id}" is {facts.models[tune_id].hugging_face_id}, but args deploy {show(deployed)}'
        yield place, message, _right_tune_id(deployed, right, facts)


def _will_be_missed(draft: Draft, facts: Facts) -> bool:
    """True where another rule asks for the model's name already, or args cannot be read at all."""
    config = facts.config_of(draft)
    return draft.args is None or (config is not None and "model-name" in config.needs_flags)


def _right_tune_id(word: str, right: TuneModel | None, facts: Facts) -> str:
    if right is not None:
        return f'did you mean "{right.tune_id}"? It is the one for {right.hugging_face_id}'
    models = facts.models or {}
    # short ids such as "qwen3-4b" are the tail of the real ones; likeness alone would prefer a sibling
    tails = [tune_id for tune_id in models if tune_id.endswith("-" + word)]
    near = tails[0] if len(tails) == 1 else closest(word, tuple(models))
    return f'did you mean "{near}"?' if near else "no model of tune.json has this Hugging Face id"


def technique_is_supported(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """The model can be tuned in this way."""
    model = (facts.models or {}).get(draft.tune_value("tuneId") or "")
    technique, training = draft.tune_value("technique"), draft.tune_value("trainingType")
    if model is None or technique is None:
        return
    techniques = {str(name): support for name, support in model.techniques.items()}
    if technique not in techniques:
        hint = "one of: " + ", ".join(techniques)
        yield ("tuneConfig", "technique"), f"{model.tune_id} cannot be tuned by {technique}", hint
    elif training is not None and training not in techniques[technique].training_types:
        hint = "one of: " + ", ".join(techniques[technique].training_types)
        yield ("tuneConfig", "trainingType"), f"{model.tune_id} does not support {training} for {technique}", hint


CROSS_RULES: tuple[CrossRule, ...] = (
    server_is_known,
    instance_is_known,
    region_is_known,
    tune_model_is_known,
    technique_is_supported,
)


def model_fits(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """Weights that fill the GPUs (a warning: quantization and context length decide in the end)."""
    model, instance = facts.model_of(draft), facts.instance_of(draft)
    if model is None or model.weights_gb is None or instance is None or not instance.gpus:
        return
    room = instance.total_gpu_memory_gb
    if model.weights_gb > room * TIGHT:
        verdict = "do not fit into" if model.weights_gb > room else "leave little of"
        message = f"{model.weights_gb:g} GB of weights {verdict} the {room} GB of GPU memory of {instance.name}"
        yield ("args",), message, "expect out-of-memory on AWS; take a larger instance"


def gpu_is_there(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """A GPU server on a CPU instance (a warning)."""
    config = facts.config_of(draft)
    instance = facts.instance_of(draft)
    if config is not None and config.needs_gpu and instance is not None and not instance.gpus:
        yield ("args",), f"{config.name} needs a GPU; {instance.name} has none", "take a GPU instance"


def generator_accepts(draft: Draft, facts: Facts) -> Iterator[Finding]:
    """A configuration that the generator lists and refuses (a warning: our own templates may have it)."""
    config = facts.config_of(draft)
    if config is not None and not config.accepted_by_generator:
        yield ("args",), f"ml-container-creator refuses to generate {config.name}", "it cannot run with the scripts driver"


CROSS_WARNINGS: tuple[CrossRule, ...] = (model_fits, gpu_is_there, generator_accepts)
