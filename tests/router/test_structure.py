"""The router knows no framework, no model and no network: whoever uses it brings those along."""

import json
import subprocess
import sys

FOREIGN = ("openai", "httpx", "httpx2", "mlx", "mlx_lm", "langchain_core", "llama_index", "huggingface_hub", "torch")
CODE = f"""
import importlib, json, pkgutil, sys, threading
import mlx_integrations.router
modules = [name.name for name in pkgutil.iter_modules(mlx_integrations.router.__path__)]
for name in modules:
    importlib.import_module(f"mlx_integrations.router.{{name}}")
loaded = [name for name in {FOREIGN!r} if name in sys.modules]
print(json.dumps({{"modules": len(modules), "loaded": loaded, "threads": threading.active_count()}}))
"""


def test_all_of_it_is_imported_without_anything_else() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("modules") > 20
    assert told == {"loaded": [], "threads": 1}
