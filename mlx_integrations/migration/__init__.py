"""Re-embed a vector store with another model: planned, resumable, verified, switched at once, and rolled back.

    store = open_store("my_index")
    executor = LocalExecutor(embedding_backend("minilm-l6-v2"))
    plan_migration(store, executor); migrate(store, executor); rollback(store); gc(store)

Names are loaded on first use (PEP 562): importing the package imports no store's client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations.migration.api import gc, migrate, publish, rollback, status, verify
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.migration.executors.ray_data import Cluster, RayExecutor
    from mlx_integrations.migration.executors.recipe import ModelRecipe
    from mlx_integrations.migration.finding.scan import scan
    from mlx_integrations.migration.many.bulk import Executors, migrate_all
    from mlx_integrations.migration.many.jobs import Wanted, jobs_of
    from mlx_integrations.migration.moving import open_move
    from mlx_integrations.migration.planning import plan_migration
    from mlx_integrations.migration.report.measure import measure_migration
    from mlx_integrations.migration.report.page import page_of
    from mlx_integrations.migration.stores.opening import open_store
    from mlx_integrations.migration.targets.opening import open_target

__all__ = [
    "Cluster",
    "Executors",
    "LocalExecutor",
    "ModelRecipe",
    "RayExecutor",
    "Wanted",
    "gc",
    "jobs_of",
    "measure_migration",
    "migrate",
    "migrate_all",
    "open_move",
    "open_store",
    "open_target",
    "page_of",
    "plan_migration",
    "publish",
    "rollback",
    "scan",
    "status",
    "verify",
]

_HOMES = {
    "Cluster": "executors.ray_data",
    "Executors": "many.bulk",
    "LocalExecutor": "executors.local",
    "ModelRecipe": "executors.recipe",
    "RayExecutor": "executors.ray_data",
    "Wanted": "many.jobs",
    "jobs_of": "many.jobs",
    "measure_migration": "report.measure",
    "migrate_all": "many.bulk",
    "open_move": "moving",
    "open_store": "stores.opening",
    "open_target": "targets.opening",
    "page_of": "report.page",
    "plan_migration": "planning",
    "scan": "finding.scan",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
