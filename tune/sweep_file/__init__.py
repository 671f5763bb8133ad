"""The sweep file: YAML to an explicit, validated list of trials. Light: needs neither torch nor Ray."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
