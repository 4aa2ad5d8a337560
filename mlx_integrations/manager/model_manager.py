"""The manager: one object for what is on this machine, what can be fetched, and what can go."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mlx_integrations.errors import (
    ConfigurationError,
    GatedRepositoryError,
    ModelNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from mlx_integrations.manager.expectations import expected_here, expected_on_hub
from mlx_integrations.manager.finding import find_model
from mlx_integrations.manager.folders import lm_studio_folders
from mlx_integrations.manager.hub_cache import HubRepository, default_cache_dir
from mlx_integrations.manager.hub_client import HubClient, HubGreeting
from mlx_integrations.manager.inventory import list_models
from mlx_integrations.manager.locate import locate
from mlx_integrations.manager.names import parse_repository
from mlx_integrations.manager.pacing import Clock
from mlx_integrations.manager.packaged import PACKAGED_MODELS
from mlx_integrations.manager.partials import list_partials, prune_partials
from mlx_integrations.manager.plan import free_disk_bytes, make_plan
from mlx_integrations.manager.progress import OnProgress
from mlx_integrations.manager.pull import carry_out, refuse_unsupported
from mlx_integrations.manager.records import (
    InstalledModel,
    PartialFile,
    PulledModel,
    PullPlan,
    PullProgress,
    Removal,
    Update,
    Verification,
)
from mlx_integrations.manager.remove import carry_out_removal, plan_folder_removal, plan_repository_removal
from mlx_integrations.manager.repair import discard_damaged
from mlx_integrations.manager.support import DescribeSupport
from mlx_integrations.manager.verify import verify_files
from mlx_integrations.registry.catalogue import ModelRegistry
from mlx_integrations.registry.entry import ModelEntry

__all__ = ["ModelManager"]

_Updates = list[Update]  # inside the class, `list` is its method
_Partials = list[PartialFile]


class ModelManager:
    """Lists, downloads, checks and removes models. Making one reads nothing and asks nobody.

    Args:
        cache_dir: The Hugging Face cache; by default the one of huggingface_hub (HF_HUB_CACHE, HF_HOME).
        folders: Where else models are; LM Studio's folders are always looked at.
        registry: What short names mean; the catalogue in the package otherwise.
        endpoint: Address of a mirror; by default the one of huggingface_hub (HF_ENDPOINT).
        token: What opens private and gated repositories; by default the one of huggingface_hub (HF_TOKEN or
            `hf auth login`).
        offline: Never use the network; HF_HUB_OFFLINE says the same.
        describe_support: Knows which architectures can be run, by config.json and the names of the files.
        clock: Time and chance, for tests.
        free_bytes: Free space where a folder is, for tests.
    """

    def __init__(
        self,
        *,
        cache_dir: Path | None = None,
        folders: Sequence[Path] = (),
        registry: ModelRegistry | None = None,
        endpoint: str | None = None,
        token: str | None = None,
        offline: bool = False,
        describe_support: DescribeSupport | None = None,
        clock: Clock | None = None,
        free_bytes: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        self._cache_dir = cache_dir
        self._folders = tuple(folders)
        self._registry = registry
        self._describe = describe_support
        self._clock = clock or Clock()
        self._free_bytes = free_bytes
        self._client = HubClient(endpoint=endpoint, token=token, offline=offline, clock=self._clock)

    @property
    def cache_dir(self) -> Path:
        """The Hugging Face cache; it need not exist."""
        return self._cache_dir or default_cache_dir()

    @property
    def registry(self) -> ModelRegistry:
        """What short names mean."""
        if self._registry is None:
            self._registry = ModelRegistry.embedded()
        return self._registry

    @property
    def has_token(self) -> bool:
        """Whether there is a token for private and gated repositories."""
        return bool(self._client.token)

    def greet_hub(self, timeout_seconds: float) -> HubGreeting:
        """Whether the Hub answers, asked once.

        Raises:
            OfflineError: The network is switched off.
            HubUnavailableError: No answer in time.
            HubError: The address is none.
        """
        return self._client.greet(timeout_seconds)

    # What is here

    def list(self) -> list[InstalledModel]:
        """Every model on this machine, usable or not, and why not."""
        return list_models(self.cache_dir, self._folders, self._describe)

    def path(self, model: str | Path) -> Path:
        """A model's folder.

        Raises:
            ModelNotFoundError: It is not on this machine; the hint says how it gets here.
        """
        return locate(model, self._folders, cache_dir=self.cache_dir, registry=self.registry)

    def find(self, model: str | Path) -> InstalledModel:
        """What is known about a model on this machine, complete or not.

        Raises:
            ModelNotFoundError: It is not on this machine.
        """
        return find_model(self.list(), model, self.registry, self.cache_dir)

    def size_bytes(self, model: str | Path) -> int:
        """What a model's files take on the disk.

        Raises:
            ModelNotFoundError: It is not on this machine.
        """
        return self.find(model).size_bytes

    # From the Hub

    def plan(
        self,
        model: str,
        *,
        revision: str | None = None,
        include: Sequence[str] = (),
        allow_all_files: bool = False,
    ) -> PullPlan:
        """What downloading a model would do. Asks the Hub three small questions and changes nothing.

        Args:
            model: A name of the registry, a repository (`org/name`, `org/name@revision`), or the address of its page.
            revision: A branch, tag or commit; by default the one that the registry checked for its own names, and
                `main` for repositories.
            include: Patterns of files to take besides those that are needed, such as `*Q4_0.gguf`.
            allow_all_files: Take every file of the repository.

        Raises:
            ModelNotFoundError: The name means no repository.
            OfflineError: The network is switched off.
            HubError: The Hub does not answer, or does not give the repository; its subclasses say why.
        """
        repo_id, named, entry = self._repository(model)
        pinned = entry.revision if entry is not None and parse_repository(model) is None else None

        def plan_at(wanted: str) -> PullPlan:
            return make_plan(
                self._client,
                HubRepository(self.cache_dir, repo_id),
                wanted,
                entry=entry,
                describe=self._describe,
                include=include,
                all_files=allow_all_files,
            )

        if revision is None and pinned is not None:
            with suppress(RevisionNotFoundError):  # its history was rewritten since the registry was
                return plan_at(pinned)
        return plan_at(revision or named or "main")

    def pull(
        self,
        model: str | PullPlan,
        *,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
        force: bool = False,
    ) -> PulledModel:
        """Download a model, or what is missing of it.

        What an interrupted download left is gone on with; Ctrl-C and `cancel` stop at once and keep it. Several
        processes that want the same model share the work.

        Args:
            model: A plan, or what `plan` takes.
            on_progress: Told where it stands, a few times a second, in this thread.
            cancel: Set it in another thread to stop.
            force: Download it although it cannot be run here.

        Raises:
            UnsupportedArchitectureError: There is no code for this kind of model.
            UnsupportedFormatError: It has no weights that can be loaded.
            InsufficientDiskError: It does not fit on the disk.
            ChecksumMismatchError: A file arrived wrong twice.
            DownloadCancelledError: `cancel` was set.
            OfflineError: The network is switched off, and the model is not here.
            HubError: The Hub does not answer, or does not give the repository; its subclasses say why.
        """
        if isinstance(model, str):
            here = self._already_here(model)
            if here is not None:
                return here
        plan = self.plan(model) if isinstance(model, str) else model
        if not force:
            refuse_unsupported(plan)
        repository = HubRepository(self.cache_dir, plan.repo_id)
        pulled = carry_out(
            plan,
            self._client,
            repository,
            on_progress=on_progress,
            cancel=cancel,
            clock=self._clock,
            free_bytes=self._free_bytes,
        )
        if plan.entry is not None and plan.entry.revision == plan.revision and "main" not in repository.references():
            # Tools that know only the name look for `main`; the registry's commit is what it was when it was checked.
            repository.write_reference("main", plan.revision)
        return pulled

    def updates(self, model: str | None = None) -> _Updates:
        """Models whose repositories have moved on; one question to the Hub for each.

        Args:
            model: Only this one; otherwise every usable model of the cache whose repository can still be read.

        Raises:
            ModelNotFoundError: The model is not on this machine.
            OfflineError: The network is switched off.
            HubError: The Hub does not answer.
        """
        if model is not None:
            models = [self.find(model)]
        else:
            models = [one for one in self.list() if one.source == "hub" and one.is_usable]
        found = []
        for repo_id in dict.fromkeys(one.repo_id for one in models if one.repo_id):
            installed = HubRepository(self.cache_dir, repo_id).commit_of(None)
            try:
                latest = self._client.commit(repo_id, "main")
            except (RepositoryNotFoundError, GatedRepositoryError, RevisionNotFoundError):
                if model is not None:
                    raise
                continue
            if installed is not None and installed != latest:
                found.append(Update(repo_id=repo_id, installed_revision=installed, latest_revision=latest))
        return found

    # Checked and removed

    def verify(self, model: str | Path, *, online: bool = False, on_progress: OnProgress | None = None) -> Verification:
        """Read every file of a model and compare it with what it should be.

        Args:
            model: A model on this machine.
            online: Compare with the Hub's list, instead of with what the cache says about itself.
            on_progress: Told how much has been read.

        Raises:
            ModelNotFoundError: It is not on this machine.
            HubError: The Hub does not answer, or does not give the repository.
        """
        installed = self.find(model)
        expected = (
            expected_on_hub(installed, self._client, self.cache_dir)
            if online
            else expected_here(installed, self.cache_dir, self.registry)
        )

        def report(file: str, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(
                    PullProgress(phase="verifying", done_bytes=done, total_bytes=total, resumed_bytes=0, file=file)
                )

        return verify_files(installed.path, expected, report)

    def repair(
        self,
        verification: Verification,
        *,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> PulledModel:
        """Download the files again that a check found wrong or missing, of the same commit.

        Raises:
            ConfigurationError: The model did not come from the Hub.
            HubError: As for `pull`.
        """
        installed = self.find(verification.path)
        if installed.source != "hub" or installed.repo_id is None or installed.revision is None:
            raise ConfigurationError(
                f"`{installed.name}` did not come from the Hub, so it cannot be repaired from there.",
                hint="Put the files back from where they came.",
            )
        plan = self.plan(installed.repo_id, revision=installed.revision)
        discard_damaged(verification, HubRepository(self.cache_dir, installed.repo_id))
        return self.pull(plan, on_progress=on_progress, cancel=cancel, force=True)

    def plan_removal(self, model: str | Path) -> Removal:
        """What removing a model would delete. Changes nothing.

        Args:
            model: A model on this machine; with `@revision` only this revision goes.

        Raises:
            ModelNotFoundError: It is not on this machine.
            ConfigurationError: It belongs to a Python package.
        """
        installed = self.find(model)
        if installed.source == "packaged":
            raise ConfigurationError(
                f"`{installed.name}` belongs to a Python package.", hint=_uninstall_hint(installed.name)
            )
        if installed.source == "hub" and installed.repo_id is not None:
            is_one_revision = "@" in str(model)
            repository = HubRepository(self.cache_dir, installed.repo_id)
            return plan_repository_removal(repository, installed.name, installed.revision if is_one_revision else None)
        is_studio = any(installed.path.is_relative_to(folder) for folder in lm_studio_folders())
        return plan_folder_removal(installed.path, installed.name, owner="LM Studio" if is_studio else None)

    def remove(self, removal: Removal) -> int:
        """Delete what a removal lists, and nothing else.

        Returns:
            The bytes that this frees.

        Raises:
            ModelInUseError: It is being downloaded right now.
            ConfigurationError: The removal reaches outside the folders of models.
        """
        homes = [self.cache_dir, *self._folders, *lm_studio_folders()]
        if not any(removal.root == home or removal.root.is_relative_to(home) for home in homes):
            raise ConfigurationError(f"`{removal.root}` is no folder of models: nothing was removed.")
        return carry_out_removal(removal)

    def partials(self) -> _Partials:
        """What interrupted downloads left, ours and those of huggingface_hub."""
        return list_partials(self.cache_dir)

    def prune(self, partials: Sequence[PartialFile] | None = None) -> int:
        """Delete partial files that no download is writing.

        Args:
            partials: Only these.

        Returns:
            The bytes that this frees.
        """
        return prune_partials(self.cache_dir, self.partials() if partials is None else partials)

    # Helpers

    def _repository(self, model: str) -> tuple[str, str | None, ModelEntry | None]:
        """The repository that a name means, the revision that it names, and its entry in the registry."""
        entry = self.registry.get(model)
        if entry is not None and entry.repo_id is not None:
            return entry.repo_id, None, entry
        name = parse_repository(model)
        if name is not None:
            return name.repo_id, name.revision, self.registry.get(name.repo_id) if name.revision is None else None
        if entry is not None:
            raise ConfigurationError(f"`{model}` is not on the Hub.", hint=_without_repository_hint(entry))
        suggestions = self.registry.suggest(model)
        raise ModelNotFoundError(
            f"`{model}` is neither in the registry nor a repository.",
            model=model,
            suggestions=suggestions,
            hint=None if suggestions else "`mlxi models search` lists what is known; a repository is `org/name`.",
        )

    def _already_here(self, model: str) -> PulledModel | None:
        """A model that needs no network: one that comes in a package, or any whole one while offline."""
        try:
            installed = self.find(model)
        except ModelNotFoundError:
            return None
        if not (installed.source == "packaged" or (self._client.is_offline and installed.is_complete)):
            return None
        return PulledModel(
            path=installed.path,
            repo_id=installed.repo_id or installed.name,
            revision=installed.revision or "",
            transferred_bytes=0,
            seconds=0.0,
        )


def _without_repository_hint(entry: ModelEntry) -> str:
    if entry.install_command:
        return f"Install it with: {entry.install_command}"
    return "Its entry in your list of models has no `repo_id`." if entry.origin == "user" else "It is here already."


def _uninstall_hint(name: str) -> str:
    packaged = next((one for one in PACKAGED_MODELS if one.name == name), None)
    if packaged is None:
        return "It comes with mlx-integrations itself."
    return f"Remove it with: pip uninstall {packaged.distribution.partition('==')[0]}"
