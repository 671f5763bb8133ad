"""Sweeps: the sweep file, its trials, and the Tuner that runs them."""

import cluster as cluster  # sets Ray's environment before Ray is imported
