"""The contract of stores, under the name by which tests know it."""

from mlx_integrations.migration.contract import Document, StoreContract, documents, snapshot

__all__ = ["Document", "StoreContract", "documents", "snapshot"]
