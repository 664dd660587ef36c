"""Images and who holds them: data sets, their partition over clients, and the draws of a round."""

from distreal_jax.data.datasets import Dataset, load_dataset, synthetic_dataset
from distreal_jax.data.partition import PARTITIONS, Partition, make_partition
from distreal_jax.data.sampling import batch_indices, sample_clients

__all__ = [
    "PARTITIONS",
    "Dataset",
    "Partition",
    "batch_indices",
    "load_dataset",
    "make_partition",
    "sample_clients",
    "synthetic_dataset",
]
