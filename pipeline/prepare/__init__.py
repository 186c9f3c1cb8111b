"""The producer's story: request → sources → plan → shards → a sealed dataset."""

from pipeline.files import CACHE
from pipeline.prepare.estimate import Estimate, estimate
from pipeline.prepare.output import Prepared
from pipeline.prepare.request import Request
from pipeline.prepare.run import prepare_dataset

__all__ = ["CACHE", "Estimate", "Prepared", "Request", "estimate", "prepare_dataset"]
