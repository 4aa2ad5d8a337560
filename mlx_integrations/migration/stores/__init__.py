"""Vector stores that can be migrated, one file each."""
