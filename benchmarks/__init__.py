"""Benchmarks: servers in turn on one core, a load generator on the other, and only ratios believed."""
