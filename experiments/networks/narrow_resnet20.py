"""ResNet-20 with fewer filters, for federations whose devices can do few mini-batches with the whole one."""

from distreal_jax.networks import ResNet20


class HalfResNet20(ResNet20):
    """ResNet-20 with 8, 16 and 32 filters: HeteroFL's sub-network of width 1/2, on its own."""

    first_filters = 8
