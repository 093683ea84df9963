"""The dashboard and the manifest of examples/serving name metrics, flags and routes that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import yaml

from adapterkit.cli.serve import command
from tests.helpers.server import Running

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"


def test_the_dashboards_metrics_exist(server: Running) -> None:
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    described = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)", server.send("/metrics")[1], re.MULTILINE))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(r"adapterkit_\w+", expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert families <= described, families - described
    unused = {name for name in described - families if not name.endswith("_created")}  # of when a series began
    assert not unused, "metrics that no panel shows"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for expression in expressions:
        assert expression.count("(") == expression.count(")"), expression


def test_the_manifests_flags_and_probes_exist(server: Running) -> None:
    deployment, service = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    program, name, *args = container["args"]
    assert (program, name) == ("adapt", "serve")
    flags = {option for parameter in command.params for option in parameter.opts}
    assert {arg.partition("=")[0] for arg in args} <= flags
    with click.Context(command) as context:
        given = [arg for arg in args if not arg.startswith("--token-file")]  # a file of the cluster
        assert command.parse_args(context, given) == []
    hosts = dict(arg.lstrip("-").split("=", 1) for arg in args)["allowed-hosts"].split(",")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        request = container[probe]["httpGet"]
        assert server.send(request["path"])[0] == 200
        assert request["httpHeaders"][0]["value"] in hosts
    assert server.send(pod["metadata"]["annotations"]["prometheus.io/path"])[0] == 200
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_flags_of_the_manifest_for_kuberay_exist() -> None:
    job, service = yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text())
    program, name, *args = job["spec"]["entrypoint"].split()
    assert (program, name) == ("adapt", "serve")
    token = args.index("--token-file")  # a file of the cluster
    with click.Context(command) as context:
        assert command.parse_args(context, args[:token] + args[token + 2 :]) == []
        assert context.params["on"] == "ray"
    spec = job["spec"]["rayClusterSpec"]
    head, (group,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert float(container["resources"]["requests"]["cpu"]) == context.params["cpus_per_worker"]
    assert group["minReplicas"] == context.params["min_workers"]
    assert group["maxReplicas"] == context.params["workers"]
    assert service["spec"]["selector"] == head["template"]["metadata"]["labels"]
    (port,) = head["template"]["spec"]["containers"][0]["ports"]
    assert port["containerPort"] == context.params["port"]
