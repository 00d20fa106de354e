"""For tests of pipelines: `from geartrain.testing import simulated`."""

from geartrain.faces.simulating import Simulator as Simulator
from geartrain.faces.simulating import simulated as simulated
from geartrain.faces.testing import PipelineRunner as PipelineRunner
from geartrain.faces.testing import RunResult as RunResult
