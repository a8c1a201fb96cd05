"""The contracts between kdx and what plugs into it. Imports nothing else of kdx."""

from kdx.protocols.data import DatasetFactory as DatasetFactory
from kdx.protocols.data import ImageData as ImageData
from kdx.protocols.images import Batched as Batched
from kdx.protocols.images import Comparable as Comparable
from kdx.protocols.images import ImageSource as ImageSource
from kdx.protocols.images import InputSpec as InputSpec
from kdx.protocols.images import Key as Key
from kdx.protocols.images import Labelled as Labelled
from kdx.protocols.images import Prepared as Prepared
from kdx.protocols.images import SceneSource as SceneSource
from kdx.protocols.images import Whole as Whole
from kdx.protocols.networks import Folding as Folding
from kdx.protocols.networks import Holding as Holding
from kdx.protocols.networks import Loss as Loss
from kdx.protocols.networks import NetworkFactory as NetworkFactory
from kdx.protocols.networks import Outputs as Outputs
from kdx.protocols.networks import Planned as Planned
from kdx.protocols.networks import SharedState as SharedState
from kdx.protocols.networks import StudentTransform as StudentTransform
from kdx.protocols.tasks import IGNORED as IGNORED
from kdx.protocols.tasks import ByClass as ByClass
from kdx.protocols.tasks import ClassMeter as ClassMeter
from kdx.protocols.tasks import ClassReport as ClassReport
from kdx.protocols.tasks import Meter as Meter
from kdx.protocols.tasks import Task as Task
from kdx.protocols.trackers import Tracker as Tracker
