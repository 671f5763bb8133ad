"""Evaluators on Ray: detached actors that judge archived stages, and the coordinator that hands out the work."""
