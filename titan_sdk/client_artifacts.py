"""The clients' artifact methods."""

from __future__ import annotations

import os
from pathlib import Path

from titan_sdk.client_base import AsyncClientBase, ClientBase
from titan_sdk.flows import artifacts
from titan_sdk.flows.transfer import Progress
from titan_sdk.model.artifact import ArtifactRef

__all__ = ["ArtifactMethods", "AsyncArtifactMethods"]


class ArtifactMethods(ClientBase):
    """The artifact registry: files by name."""

    def upload_file(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> ArtifactRef:
        """Store a file in the artifact registry under its base name, replacing what was there. Idempotent.

        Args:
            progress: called with the bytes sent and the bytes in all.

        Raises:
            MissingFile: there is no such file.
            PayloadTooLarge: over about 7.86 MB on a real master, whose packet limit that is. Nothing was sent.
        """
        return self._run(artifacts.upload_file(self._session, path, progress))

    def upload_project_folder(
        self,
        path: str | os.PathLike[str],
        project_name: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> ArtifactRef:
        """Zip a folder and store it as ``<project_name>.zip``; default name: the folder's. Idempotent.

        Caches and what a ``.titanignore`` in it names (as a .gitignore) stay behind; the same files give the same zip.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
        """
        return self._run(artifacts.upload_project_folder(self._session, path, project_name, progress))

    def fetch_artifact(
        self, name: str, save_path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> Path:
        """Write an artifact to ``save_path``, default its base name in the current folder; whole or not at all.

        Raises:
            NotFound: the registry has no artifact of that name.
        """
        return self._run(artifacts.fetch_artifact(self._session, name, save_path, progress))

    def publish_artifact(self, key: str, path: str | os.PathLike[str]) -> ArtifactRef:
        """Upload a file and store its name in TitanStore under ``key``.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
            StoreUnavailable: as ``store_put``; the file is uploaded.
        """
        return self._run(artifacts.publish_artifact(self._session, key, path))

    def get_artifact(self, key: str, save_path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the file that was published under ``key``; see ``fetch_artifact``.

        Raises:
            NotFound: nothing is published under the key.
            StoreUnavailable: the master's store does not answer, so nobody knows.
        """
        return self._run(artifacts.get_artifact(self._session, key, save_path))

    def deploy_script(self, path: str | os.PathLike[str]) -> ArtifactRef:
        """Put a script into the master's own script folder under its base name. Idempotent."""
        return self._run(artifacts.deploy_script(path))


class AsyncArtifactMethods(AsyncClientBase):
    """As ``ArtifactMethods``, awaited."""

    async def upload_file(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> ArtifactRef:
        """Store a file in the artifact registry under its base name, replacing what was there. Idempotent.

        Args:
            progress: called with the bytes sent and the bytes in all.

        Raises:
            MissingFile: there is no such file.
            PayloadTooLarge: over about 7.86 MB on a real master, whose packet limit that is. Nothing was sent.
        """
        return await self._run(artifacts.upload_file(self._session, path, progress))

    async def upload_project_folder(
        self,
        path: str | os.PathLike[str],
        project_name: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> ArtifactRef:
        """Zip a folder and store it as ``<project_name>.zip``; default name: the folder's. Idempotent.

        Caches and what a ``.titanignore`` in it names (as a .gitignore) stay behind; the same files give the same zip.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
        """
        return await self._run(artifacts.upload_project_folder(self._session, path, project_name, progress))

    async def fetch_artifact(
        self, name: str, save_path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> Path:
        """Write an artifact to ``save_path``, default its base name in the current folder; whole or not at all.

        Raises:
            NotFound: the registry has no artifact of that name.
        """
        return await self._run(artifacts.fetch_artifact(self._session, name, save_path, progress))

    async def publish_artifact(self, key: str, path: str | os.PathLike[str]) -> ArtifactRef:
        """Upload a file and store its name in TitanStore under ``key``.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
            StoreUnavailable: as ``store_put``; the file is uploaded.
        """
        return await self._run(artifacts.publish_artifact(self._session, key, path))

    async def get_artifact(self, key: str, save_path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the file that was published under ``key``; see ``fetch_artifact``.

        Raises:
            NotFound: nothing is published under the key.
            StoreUnavailable: the master's store does not answer, so nobody knows.
        """
        return await self._run(artifacts.get_artifact(self._session, key, save_path))

    async def deploy_script(self, path: str | os.PathLike[str]) -> ArtifactRef:
        """Put a script into the master's own script folder under its base name. Idempotent."""
        return await self._run(artifacts.deploy_script(path))
