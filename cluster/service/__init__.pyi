from . import client as client
from .archive_check import check_archive as check_archive
from .ray_adapter import answer as answer
from .ray_runtime import connect as connect
from .ray_runtime import limit_gpu_memory as limit_gpu_memory
from .stage_accuracy import measure as measure
from .watch import watched as watched
