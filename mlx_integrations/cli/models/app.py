"""The commands of `mlxi models`, in the order of their help."""

from mlx_integrations.cli.frame import add, group
from mlx_integrations.cli.models.checking import path, update, verify
from mlx_integrations.cli.models.importing import import_
from mlx_integrations.cli.models.known import recommend, search, show
from mlx_integrations.cli.models.listing import list_
from mlx_integrations.cli.models.pulling import pull
from mlx_integrations.cli.models.removing import prune, remove

__all__ = ["app"]

app = group("Find, download, check and delete models.", no_args_is_help=True)

_FIND, _KEEP = "Find one", "Those on this machine"
add(app, recommend, panel=_FIND)
add(app, search, panel=_FIND)
add(app, show, panel=_FIND)
add(app, pull, panel=_FIND)
add(app, import_, name="import", panel=_FIND)
add(app, list_, name="list", panel=_KEEP)
add(app, path, panel=_KEEP)
add(app, verify, panel=_KEEP)
add(app, update, panel=_KEEP)
add(app, remove, name="rm", panel=_KEEP)
add(app, prune, panel=_KEEP)
