"""The manifests: valid for Kubernetes, confined pods, and who may call whom."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
OLDEST, NEWEST = "1.33", "1.37"  # docs/DEPLOYMENT.md says so
FOLDERS = ("kubernetes", "kubernetes-seaweedfs", "kubernetes-ray", "kubernetes-tls")
PORTS = {"postgres": 5432, "mlflow": 5000, "prefect": 4200, "s3": 8333, "ray": 10001, "serve": 8000}


def manifests(*folders: str) -> list[dict[str, Any]]:
    """Every object of some folders, without what kustomize itself reads."""
    found = [
        row
        for folder in folders
        for path in sorted((INFRA / folder).glob("*.yaml"))
        for row in yaml.safe_load_all(path.read_text())
    ]
    return [row for row in found if row["kind"] != "Kustomization"]


def templates(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod templates, by a name."""
    found = {}
    for row in rows:
        spec = row.get("spec", {})
        groups = [spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", [])]
        for number, holder in enumerate([spec, *groups]):
            if "template" in holder:
                found[f"{row['metadata']['name']}-{number}"] = holder["template"]
    return found


JOB = json.loads((INFRA / "pools/kubernetes.json").read_text())["job_configuration"]["job_manifest"]
TEMPLATES = {**templates(manifests(*FOLDERS)), "run": JOB["spec"]["template"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_are_what_kubernetes_documents(folder: str, version: str) -> None:
    for row in manifests(folder):
        if row["kind"] != "RayCluster":  # the schema of KubeRay's operator, not Kubernetes'
            kubernetes_validate.validate(row, version, strict=True)


def complaints(template: dict[str, Any]) -> list[str]:
    """What a pod may do that it needs not: the profile `restricted`, and what we ask beyond it."""
    pod, found = template["spec"], []
    account = pod.get("securityContext", {})
    if not account.get("runAsNonRoot") or not account.get("runAsUser"):
        found.append("runs as root")
    if account.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("any system call")
    if pod.get("automountServiceAccountToken", True):
        found.append("holds a token of the cluster")
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("is in a namespace of the node")
    if any("hostPath" in volume for volume in pod.get("volumes", [])):
        found.append("mounts the node's disk")
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        found += _of_container(container)
    return found


def _of_container(container: dict[str, Any]) -> list[str]:
    confined, found = container.get("securityContext", {}), []
    if confined.get("privileged") or confined.get("allowPrivilegeEscalation", True):
        found.append("may gain rights")
    if confined.get("capabilities") != {"drop": ["ALL"]}:
        found.append("has capabilities")
    if not confined.get("readOnlyRootFilesystem"):
        found.append("may write its own files")
    if "memory" not in container.get("resources", {}).get("limits", {}):
        found.append("takes all memory")
    if "hostPort" in str(container.get("ports")):
        found.append("has a port of the node")
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_are_confined(name: str) -> None:
    assert complaints(TEMPLATES[name]) == []


def _weakened(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> list[str]:
    template = copy.deepcopy(TEMPLATES["mlflow-0"])
    change(template["spec"], template["spec"]["containers"][0])
    return complaints(template)


@pytest.mark.parametrize(
    "change",
    [
        lambda pod, _: pod["securityContext"].pop("runAsNonRoot"),
        lambda pod, _: pod["securityContext"].update(runAsUser=0),
        lambda pod, _: pod["securityContext"].pop("seccompProfile"),
        lambda pod, _: pod.pop("automountServiceAccountToken"),
        lambda pod, _: pod.update(hostNetwork=True),
        lambda pod, _: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        lambda pod, _: pod.update(initContainers=[{"name": "x"}]),
        lambda _, one: one["securityContext"].update(privileged=True),
        lambda _, one: one["securityContext"].pop("allowPrivilegeEscalation"),
        lambda _, one: one["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        lambda _, one: one["securityContext"].pop("readOnlyRootFilesystem"),
        lambda _, one: one["resources"].pop("limits"),
        lambda _, one: one["ports"][0].update(hostPort=80),
    ],
)
def test_a_weaker_pod_is_complained_about(change: Callable) -> None:
    assert _weakened(change)


def test_servers_are_probed() -> None:
    for row in manifests(*FOLDERS):
        if row["kind"] in ("Deployment", "StatefulSet"):
            container = row["spec"]["template"]["spec"]["containers"][0]
            assert {"readinessProbe", "livenessProbe"} <= set(container), row["metadata"]["name"]


def chosen(selector: dict[str, Any], app: str) -> bool:
    """Whether a selector takes the pods of an app."""
    labels = {"app": app}
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    rules = selector.get("matchExpressions", [])
    assert all(rule["operator"] == "In" for rule in rules)
    return all(labels.get(rule["key"]) in rule["values"] for rule in rules)


def allowed(policies: list[dict[str, Any]], way: str, app: str, other: str, port: int) -> bool:
    """Whether the policies let an app call (`Egress`), or be called by (`Ingress`), another."""
    key = {"Egress": "to", "Ingress": "from"}[way]
    mine = [p["spec"] for p in policies if chosen(p["spec"]["podSelector"], app)]
    mine = [spec for spec in mine if way in spec["policyTypes"]]
    assert mine, f"{app}: no policy, everything is allowed"
    return any(
        (key not in rule or any(_takes(peer, other) for peer in rule[key]))
        and ("ports" not in rule or port in [row["port"] for row in rule["ports"]])
        for spec in mine
        for rule in spec.get(way.lower(), [])
    )


def _takes(peer: dict[str, Any], app: str) -> bool:
    return "podSelector" in peer and chosen(peer["podSelector"], app)


def test_only_who_must_reaches_a_server() -> None:
    policies = [row for row in manifests(*FOLDERS) if row["kind"] == "NetworkPolicy"]
    apps = {template["metadata"]["labels"]["app"] for template in TEMPLATES.values()}
    calls = {
        (app, other)
        for app in [*apps, "stranger"]
        for other, port in PORTS.items()
        if allowed(policies, "Egress", app, other, port)
        and allowed(policies, "Ingress", other, app, port)
    }
    assert calls == {
        *((app, "postgres") for app in ("mlflow", "prefect", "worker", "serve")),
        *((app, "s3") for app in ("mlflow", "worker", "buckets")),
        *(("worker", server) for server in ("mlflow", "prefect", "ray")),
        *(("proxy", server) for server in ("mlflow", "prefect", "serve")),
        ("serve", "mlflow"),
        ("ray", "ray"),
    }
