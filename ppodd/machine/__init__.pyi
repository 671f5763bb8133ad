from .allowance import (
    cores as cores,
)
from .allowance import (
    limit_threads as limit_threads,
)
from .allowance import (
    machine_cores as machine_cores,
)
from .allowance import (
    machine_memory_bytes as machine_memory_bytes,
)
from .allowance import (
    memory_bytes as memory_bytes,
)
from .device import resolve_device as resolve_device
from .device_errors import (
    DeviceError as DeviceError,
)
from .device_errors import (
    device_error as device_error,
)
from .instruction_sets import instructions as instructions
from .memory import (
    keep_freed_memory as keep_freed_memory,
)
from .memory import (
    return_freed_memory as return_freed_memory,
)
from .seeding import (
    GlobalRandomness as GlobalRandomness,
)
from .seeding import (
    derived_seed as derived_seed,
)
from .seeding import (
    generator as generator,
)
from .seeding import (
    seeded as seeded,
)
from .threads import on_threads as on_threads
