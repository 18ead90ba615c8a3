"""Makes containers of the pods in docker/kubernetes: what kustomize builds, as a kubelet would start it.

kustomize build --> ConfigMap, Secret, pods --environment, volumes, user, arguments--> Container of each pod
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.docker.engine import Container, Image

POD_KINDS = ("Deployment", "StatefulSet", "Job")

RAY_PORTS = "--metrics-export-port=8080 --dashboard-agent-listen-port=52365"
RAY_HEAD = f"ray start --head --num-cpus=0 --dashboard-host=0.0.0.0 {RAY_PORTS} --block"
RAY_WORKER = f"ray start --address=head:6379 --num-cpus=2 {RAY_PORTS} --block"
"""The commands that KubeRay gives the containers of a RayService, in place of the image's."""


class Manifests:
    """What `kustomize build` says. `overrides` are settings that differ in the test's cluster."""

    def __init__(self, built: str, overrides: Mapping[str, str]) -> None:
        self.objects: list[dict[str, Any]] = [*yaml.safe_load_all(built)]
        self._overrides = overrides

    def pod(self, name: str) -> dict[str, Any]:
        """The pod of a Deployment, StatefulSet or Job; of the RayService `head` and `worker`."""
        if name in ("head", "worker"):
            (service,) = [each for each in self.objects if each["kind"] == "RayService"]
            cluster = service["spec"]["rayClusterConfig"]
            group = cluster["headGroupSpec"] if name == "head" else cluster["workerGroupSpecs"][0]
            return dict(group["template"]["spec"])
        found = [each for each in self.objects if each["kind"] in POD_KINDS and each["metadata"]["name"] == name]
        (one,) = found
        return dict(one["spec"]["template"]["spec"])

    def serve_config(self) -> dict[str, Any]:
        """The configuration that KubeRay hands to Ray Serve."""
        (service,) = [each for each in self.objects if each["kind"] == "RayService"]
        return dict(yaml.safe_load(service["spec"]["serveConfigV2"]))

    def container(self, name: str, image: Image) -> Container:
        pod = self.pod(name)
        (container,) = pod["containers"]
        rights = container["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["allowPrivilegeEscalation"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        return Container(
            name=name,
            image=image,
            argv=container.get("args", ()),
            environment={**self._environment(container), **self._overrides},
            is_read_only=rights["readOnlyRootFilesystem"],
            tmpfs=[mount["mountPath"] for mount in container.get("volumeMounts", ()) if mount["name"] == "scratch"],
            shm_bytes=512 << 20,
            volumes=[
                (f"{name}-{mount['name']}", mount["mountPath"], False)
                for mount in container.get("volumeMounts", ())
                if mount["name"] == "state"
            ],
        )

    def probe(self, name: str, kind: str) -> Sequence[str]:
        """The command of a probe; of one by HTTP the same question in Python."""
        (container,) = self.pod(name)["containers"]
        probe = container[kind]
        if "exec" in probe:
            return list(probe["exec"]["command"])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        port, path = ports[probe["httpGet"]["port"]], probe["httpGet"]["path"]
        return ["python", "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}{path}', timeout=4)"]

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self._data("ConfigMap", source["configMapRef"]["name"])
        for variable in container.get("env", ()):
            if "value" in variable:
                found[variable["name"]] = variable["value"]
            else:
                key = variable["valueFrom"]["secretKeyRef"]
                found[variable["name"]] = self._data("Secret", key["name"])[key["key"]]
        return found

    def _data(self, kind: str, name: str) -> dict[str, str]:
        (found,) = [each for each in self.objects if each["kind"] == kind and each["metadata"]["name"] == name]
        data: dict[str, str] = found["data"]
        if kind == "Secret":
            from base64 import b64decode

            return {key: b64decode(value).decode() for key, value in data.items()}
        return data
