"""The manifests of examples/serving by the schemas of Kubernetes and by KubeRay's fields."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="not installed: make test-ray")
jsonschema = pytest.importorskip("jsonschema")

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
KUBERNETES = "1.34"


def fields(required: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other fields; types are named or given as schemas."""
    schemas = {name: {"type": value} if isinstance(value, str) else value for name, value in properties.items()}
    return {"type": "object", "additionalProperties": False, "properties": schemas, "required": required.split()}


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
GROUP = {"rayStartParams": TEXTS, "template": "object"}
CLUSTER = fields(
    "headGroupSpec",
    suspend="boolean",
    managedBy="string",
    autoscalerOptions="object",
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling="boolean",
    gcsFaultToleranceOptions="object",
    rayVersion="string",
    headGroupSpec=fields("template", headService="object", enableIngress="boolean", serviceType="string", **GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            "groupName template",
            suspend="boolean",
            groupName="string",
            replicas="integer",
            minReplicas="integer",
            maxReplicas="integer",
            idleTimeoutSeconds="integer",
            scaleStrategy="object",
            numOfHosts="integer",
            **GROUP,
        ),
    },
)
RAY_JOB = fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata="object",
    spec=fields(
        activeDeadlineSeconds="integer",
        backoffLimit="integer",
        rayClusterSpec=CLUSTER,
        submitterPodTemplate="object",
        metadata=TEXTS,
        clusterSelector=TEXTS,
        submitterConfig="object",
        managedBy="string",
        deletionStrategy="object",
        entrypoint="string",
        runtimeEnvYAML="string",
        jobId="string",
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        entrypointResources="string",
        entrypointNumCpus="number",
        entrypointNumGpus="number",
        ttlSecondsAfterFinished="integer",
        shutdownAfterJobFinishes="boolean",
        suspend="boolean",
        schedule="string",
    ),
)
"""RayJob by KubeRay's API reference, ray.io/v1 (https://ray-project.github.io/kuberay/reference/api/)."""


def check(manifest: dict[str, Any]) -> None:
    """Raise a `ValidationError` for a field that isn't there, or isn't of its type."""
    if manifest["kind"] != "RayJob":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    jsonschema.validate(manifest, RAY_JOB)
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kuberay.yaml"])
def test_a_manifest_has_fields_that_exist(name: str) -> None:
    for manifest in yaml.safe_load_all((EXAMPLES / name).read_text()):
        check(manifest)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.backoffLimits", 1),
        ("spec.rayClusterSpec.rayVersion", 2.6),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", "2"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.volumeMounts.0.path", "/adapters"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.ports.0.containerPort", "http"),
    ],
)
def test_a_wrong_field_is_found(place: str, value: Any) -> None:
    manifest = copy.deepcopy(next(iter(yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text()))))
    *path, last = place.split(".")
    inner: Any = manifest
    for key in path:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)
