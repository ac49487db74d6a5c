"""Images: what a container of each runs here."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("ROOT", "Image", "Images", "service_image")

ROOT = Path(__file__).resolve().parents[2]

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_PYTHONS = frozenset({"python", "python3", "/opt/slackwater/bin/python"})


@dataclass(frozen=True, slots=True)
class Image:
    """One image.

    Attributes:
        entrypoint: Run unless the container has a ``command``; ``python`` is that of the tests.
        arguments: Follow the entrypoint unless the container has ``args``.
        environ: Under that of the container.
        pull_error: Answered to every pull; empty for none.
        digest: Of its content.
    """

    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    pull_error: str = ""
    digest: str = "sha256:" + "0" * 64

    def argv(self, command: list[str] | None, arguments: list[str] | None, environ: Mapping[str, str]) -> list[str]:
        """Return what to run, as the runtime puts it together."""
        given = list(command or self.entrypoint)
        given += arguments if arguments is not None else ([] if command else self.arguments)
        expanded = [_VARIABLE.sub(lambda match: environ.get(match[1], match[0]), part) for part in given]
        if expanded and expanded[0] in _PYTHONS:
            expanded[0] = sys.executable
        return expanded


def service_image(**environ: str) -> Image:
    """Return the image of the service, as the Dockerfile makes it.

    Args:
        environ: Over the environment of the image.
    """
    built = {
        "HOST": "0.0.0.0",  # noqa: S104 - the kubelet makes the pod's address of it
        "PORT": "3000",
        "ADMIN_HOST": "0.0.0.0",  # noqa: S104 - ditto
        "ADMIN_PORT": "3001",
        "DATA_DIR": "/data",
        "PYTHONUNBUFFERED": "1",
    }
    return Image(("python", "-m", "service"), environ={**built, **environ})


class Images:
    """A registry: what can be pulled."""

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}

    def add(self, reference: str, image: Image) -> None:
        """Offer an image under a reference, such as ``slackwater:1``."""
        self._images[reference] = image

    def remove(self, reference: str) -> None:
        """Offer it no more."""
        self._images.pop(reference, None)

    def find(self, reference: str) -> Image | None:
        """Return what a reference names, by tag or by digest; None when it cannot be pulled."""
        if reference in self._images:
            return self._images[reference]
        _, _, digest = reference.partition("@")
        return next((image for image in self._images.values() if digest and image.digest == digest), None)
