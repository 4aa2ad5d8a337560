"""Migrates many stores as one."""
