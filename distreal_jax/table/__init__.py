"""The dropout table of a device: its entries, what they cost, and how it is stored."""

from distreal_jax.table.configuration import Configuration, Configurations
from distreal_jax.table.dropout_table import DropoutTable
from distreal_jax.table.entry import TableEntry, kept_filters
from distreal_jax.table.file import shipped_tables

__all__ = ["Configuration", "Configurations", "DropoutTable", "TableEntry", "kept_filters", "shipped_tables"]
