"""Where the cluster is and who we are to it: a kubeconfig, or the account of the pod that we run in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from deploytool.cluster.errors import ClientMissingError, KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Loaded", "credentials", "load", "pool")

_DEFAULT_PATH: Final = "~/.kube/config"
_NAMESPACE_FILE: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class Loaded(NamedTuple):
    """A configuration of the official client, and the namespace that goes with it.

    Attributes:
        files: That it was read from, as ``KUBECONFIG`` names them; empty for the account of a pod.
        context: That it was read for, also when it was only the current one then; empty for the account of a pod.
    """

    configuration: Any
    namespace: str
    files: str = ""
    context: str = ""


def load(path: str, context: str, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read a configuration.

    Args:
        path: Empty for ``KUBECONFIG``, then ``~/.kube/config``, then the account of the pod.
        context: Empty for the current one.
        environ: Where ``KUBECONFIG`` is looked up.

    Raises:
        ClientMissingError: The official client is not installed.
        KubeconfigError: There is none, or it cannot be read.
    """
    try:
        from kubernetes.client import Configuration  # noqa: PLC0415 - slow to import
        from kubernetes.config import ConfigException  # noqa: PLC0415 - ditto
    except ImportError as error:
        raise ClientMissingError from error

    named = path or environ.get("KUBECONFIG", "")
    files = named.split(os.pathsep) if named else [_DEFAULT_PATH]
    found = [one for one in files if one and Path(one).expanduser().exists()]
    try:
        if found:
            # Others than the official client may not know what a tilde means.
            return _from_files(os.pathsep.join(str(Path(one).expanduser()) for one in found), context, Configuration())
        if named:
            raise KubeconfigError(f"there is no kubeconfig at {named}", "Name another by --kubeconfig or KUBECONFIG.")
        if environ.get("KUBERNETES_SERVICE_HOST"):
            return _from_pod(Configuration())
    except ConfigException as error:
        raise KubeconfigError(f"the kubeconfig {named or _DEFAULT_PATH} cannot be used: {error}") from error
    raise KubeconfigError(
        "no cluster is configured: KUBECONFIG is not set, and there is no ~/.kube/config",
        "Name a kubeconfig by --kubeconfig, or judge files alone by --offline.",
    )


def _from_files(paths: str, context: str, configuration: Any) -> Loaded:  # noqa: ANN401 - no types
    import yaml  # noqa: PLC0415 - not needed inside a pod
    from kubernetes import config  # noqa: PLC0415 - slow to import

    try:
        contexts, current = config.list_kube_config_contexts(paths)
        config.load_kube_config(paths, context or None, configuration, persist_config=False)
    except config.ConfigException:
        raise
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise KubeconfigError(f"the kubeconfig {paths}{line} is not valid YAML: {error.problem}") from error
    except (OSError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise KubeconfigError(f"the kubeconfig {paths} cannot be read: {reason}") from error
    except Exception as error:  # the client raises whatever its parser stumbles over
        raise KubeconfigError(f"the kubeconfig {paths} cannot be used: {type(error).__name__}: {error}") from error
    chosen = (next((one for one in contexts if one["name"] == context), None) if context else current) or {}
    namespace = str((chosen.get("context") or {}).get("namespace") or "default")
    return Loaded(configuration, namespace, paths, str(chosen.get("name") or context))


def _from_pod(configuration: Any) -> Loaded:  # noqa: ANN401 - no types
    from kubernetes import config  # noqa: PLC0415 - slow to import

    try:
        config.load_incluster_config(configuration)
    except config.ConfigException as error:
        raise KubeconfigError(
            f"the account of this pod cannot be used: {error}", "See that automountServiceAccountToken is not false."
        ) from error
    file = Path(_NAMESPACE_FILE)
    return Loaded(configuration, file.read_text(encoding="utf-8").strip() if file.exists() else "default")


def pool(configuration: Any) -> Any:  # noqa: ANN401 - no types
    """Return a pool of connections with the configuration's certificates and proxy."""
    from kubernetes.client import rest  # noqa: PLC0415 - slow to import

    try:
        return rest.RESTClientObject(configuration).pool_manager
    except (OSError, ValueError) as error:
        raise KubeconfigError(f"the certificates of the kubeconfig cannot be used: {error}") from error


def credentials(configuration: Any) -> dict[str, str]:  # noqa: ANN401 - no types
    """Return the headers that say who we are; a token that is about to expire is fetched anew."""
    return {one["key"]: one["value"] for one in configuration.auth_settings().values() if one["in"] == "header"}
