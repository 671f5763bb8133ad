"""Flags of a command line out of config values."""


def flags(values):
    def text(value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return [f"--{key}={text(value)}" for key, value in values.items()]
