"""Sweeps: the sweep file, its trials, and the Tuner that runs them."""
