"""One trace of a network tells what of it can be dropped, what is left, and what that costs."""

from distreal_jax.tracing.blocks import inside_blocks
from distreal_jax.tracing.calling import call_network
from distreal_jax.tracing.filter_group import FilterGroup, KeptWhole, dropped_groups
from distreal_jax.tracing.filters import (
    FilterRule,
    draw_filters,
    draw_masks,
    draw_within,
    ensemble_members,
    member_filters,
    sample_filters,
)
from distreal_jax.tracing.interception import intercept_calls, with_counts_of_sub_network
from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.rules import elementwise_rule, register_rule
from distreal_jax.tracing.site import Site
from distreal_jax.tracing.sub_networks import Kept
from distreal_jax.tracing.trace import trace_network

__all__ = [
    "FilterGroup",
    "FilterRule",
    "Kept",
    "KeptWhole",
    "Site",
    "TracedNetwork",
    "call_network",
    "draw_filters",
    "draw_masks",
    "draw_within",
    "dropped_groups",
    "elementwise_rule",
    "ensemble_members",
    "inside_blocks",
    "intercept_calls",
    "member_filters",
    "register_rule",
    "sample_filters",
    "trace_network",
    "with_counts_of_sub_network",
]
