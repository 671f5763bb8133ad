"""The commands that read data, each up to where it would begin to compute: what it says of the data, or why it refuses.

Each is the real command in this process, ended where it builds the distillation or joins Ray.
"""

import contextlib
import io
from pathlib import Path
from unittest import mock

import torch
import yaml

from ppodd.cli.main import main
from ppodd.datasets import Spec, loading
from ppodd.posters import geometry_of

IPC = 0.9
_ENDS = {
    "distill": "ppodd.distillation.stages.Distillation.__init__",
    "import": "ppodd.distillation.stages.Distillation.__init__",
    "sweep": "tune.running.sweep.connect",
}
WAYS = tuple(_ENDS)


class WouldCompute(BaseException):
    """A command has read its data and found nothing to refuse."""


def said_by(way, folder, spec=None, **fields):
    """Whether a command goes on with data, and all that it printed.

    Args:
        folder: empty; what the command is given lies there, and its archive would.
        spec: the shape of the data, where it is any.
        fields: of the config, which say the data.
    """
    loading._last.clear()  # a command is a process of its own
    line = [way, *_arguments(way, Path(folder), spec or Spec(2, 3, 8, 8), fields), f"--archive={folder}/archive"]
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        mock.patch(_ENDS[way], side_effect=WouldCompute),
    ):
        try:
            assert main(line) == 2
            goes_on = False
        except WouldCompute:
            goes_on = True
    assert not (Path(folder) / "archive").exists()
    return goes_on, out.getvalue()


def _arguments(way, folder, spec, fields):
    if way == "sweep":
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        (folder / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "config": plain}))
        return [f"{folder}/mine.yaml"]
    flags = [f"--{k}={','.join(v) if isinstance(v, tuple) else v}" for k, v in fields.items()]
    if way == "distill":
        return flags
    layout = geometry_of(IPC, spec, {})
    torch.save(torch.rand(1, spec.channels, layout.poster_height, layout.poster_width), folder / "mine_poster.pt")
    sizes = [f"--{name}={value}" for name, value in layout._asdict().items()]
    return [f"{folder}/mine_poster.pt", *flags, *sizes, "--distill_batch_size=1"]
