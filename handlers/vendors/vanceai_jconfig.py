"""VanceAI's config file, the `jconfig` of a /transform: what a job's params become on the wire (seed 002)."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from handlers.vendors import reading
from handlers.vendors.vanceai_features import CONTROL, FEATURES, IMAGE, OPERATIONS, STYLES, WORKFLOW, Feature
from schemas.catalogue import Operation, with_defaults

_BESIDE = frozenset({"out_params"})  # of a step: what stands beside its params


def jconfig(
    operation: Operation,
    params: Mapping[str, Any],
    extra: Mapping[str, Any],
    uids: Mapping[str, str],
    features: Mapping[str, Feature] = FEATURES,
) -> str:
    """The config file as text: the same job and uploads always give the same bytes. `uids` are by input.

    `extra` goes on top of module_params; of a workflow, on top of the whole.
    """
    steps = _steps(operation, params)
    if operation.name != WORKFLOW:
        return _text(_config(features[operation.name], operation, params, extra, uids))
    configs = [_config(features[name], OPERATIONS[name], given, {}, uids) for name, given in steps]
    first = features[steps[0][0]]
    return _text({"config": configs, first.key: first.name, **extra})


def inputs_named(operation: Operation, params: Mapping[str, Any], given: Collection[str]) -> set[str]:
    """The inputs that the work is about: the image, and what its control nets look at."""
    styled = [own for name, own in _steps(operation, params) if FEATURES[name].nets]
    return {IMAGE.name, *(net["image_uid"] for own in styled for net in _nets(own, given))}


def _steps(operation: Operation, params: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Each operation with its params; any but a workflow is a single step."""
    if operation.name != WORKFLOW:
        return [(operation.name, params)]
    return [
        (step["operation"], step.get("params", {}) | {name: step[name] for name in _BESIDE & step.keys()})
        for step in params["steps"]
    ]


def _config(
    feature: Feature,
    operation: Operation,
    params: Mapping[str, Any],
    extra: Mapping[str, Any],
    uids: Mapping[str, str],
) -> dict[str, Any]:
    chosen = {name: not any(rival in params for rival in rivals) for name, rivals in feature.automatic.items()}
    filled = reading.arranged(operation.params, with_defaults(operation, {**chosen, **params}))
    beside = {name: filled.pop(name, None) for name in ("out_params", "cn_configs")}
    model = feature.model if isinstance(feature.model, str) else feature.model(filled)
    config = {"module": feature.module, "module_params": {"model_name": model, **filled, **extra}}
    if beside["out_params"] is not None:
        config["out_params"] = beside["out_params"]
    told: dict[str, Any] = {feature.key: feature.name, "config": config}
    if feature.nets:
        told["cn_configs"] = [
            {"image_uid": uids[net["image_uid"]], "cn_name": net["cn_name"]} for net in _nets(params, uids)
        ]
    return told


def _nets(params: Mapping[str, Any], given: Collection[str]) -> Sequence[Mapping[str, str]]:
    """The control nets, each with the input it looks at, and each of these pairs once."""
    style = params.get("model_name", next(iter(STYLES)))
    asked = params.get("cn_configs") or [{"cn_name": STYLES[style][0]}]
    own = CONTROL.name if CONTROL.name in given else IMAGE.name
    pairs = dict.fromkeys((net.get("image_uid", own), net["cn_name"]) for net in asked)
    return [{"image_uid": image, "cn_name": name} for image, name in pairs]


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
