"""The settings: one table, its sources, and what is generated from it."""
