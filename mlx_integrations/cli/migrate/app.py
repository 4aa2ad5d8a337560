"""The verbs of `mlxi migrate`, in the order in which they are used."""

from mlx_integrations.cli.frame import add, group
from mlx_integrations.cli.migrate.publishing import gc, publish, rollback, status, verify
from mlx_integrations.cli.migrate.reporting import report
from mlx_integrations.cli.migrate.running import plan, run
from mlx_integrations.cli.migrate.scanning import scan

__all__ = ["app"]

app = group(
    "Give a vector store the vectors of another embedding model, from the texts that it holds.\n\n"
    "The store is left as it is until the new vectors are verified; the old ones are kept until `gc`. Whatever is "
    "interrupted, the same command goes on with it.",
    no_args_is_help=True,
)

for _verb in (scan, plan, run, status, verify, report, publish, rollback, gc):
    add(app, _verb)
