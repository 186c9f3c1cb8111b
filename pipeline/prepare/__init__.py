"""The producer's story: request → sources → plan → shards → a sealed dataset."""

from pipeline.prepare.estimate import Estimate, estimate
from pipeline.prepare.request import CACHE, Request
from pipeline.prepare.run import Prepared, prepare_dataset

__all__ = ["CACHE", "Estimate", "Prepared", "Request", "estimate", "prepare_dataset"]
