from . import versions as versions
from .ray_jobs import (
    JOB as JOB,
)
from .ray_jobs import (
    Job as Job,
)
from .ray_jobs import (
    Jobs as Jobs,
)
from .ray_jobs import (
    Submission as Submission,
)
from .ray_jobs import (
    dashboard as dashboard,
)
from .ray_jobs import (
    require_shared as require_shared,
)
from .ray_jobs import (
    taken_from_environment as taken_from_environment,
)
