from .blend import (
    BLENDS as BLENDS,
)
from .blend import (
    BlendParameters as BlendParameters,
)
from .blend import (
    blend_weights as blend_weights,
)
from .blend import (
    evaluation_weights as evaluation_weights,
)
from .class_order import CLASS_ORDERS as CLASS_ORDERS
from .geometry import Geometry as Geometry
from .geometry import Tiling as Tiling
from .labels import (
    LabelWindows as LabelWindows,
)
from .labels import (
    fixed_labels as fixed_labels,
)
from .labels import (
    initial_label_array as initial_label_array,
)
from .labels import (
    label_array_shape as label_array_shape,
)
from .layout import Layout as Layout
from .patches import Patches as Patches
from .patches import initial_poster as initial_poster
from .pixel_budget import geometry_of as geometry_of
from .poco import arrange_classes as arrange_classes
from .poco import published_order as published_order
from .rendering import gif as gif
from .rendering import render as render
from .rendering import strip as strip
from .tiling import scaled_tiles as scaled_tiles
from .tiling import whole_tiles as whole_tiles
