"""Labelled image sets as whitened tensors on a device. `specs` is light; `load` needs torch."""
