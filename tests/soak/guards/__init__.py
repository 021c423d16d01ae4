"""The guards that the laws rest on, by room: where each stands, how it is removed, and which test must then fail."""

from tests.soak.guards import attentive_integration, client_links, invariants, loyalty, messaging
from tests.soak.guards.mutation import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *attentive_integration.MUTATIONS,
    *loyalty.MUTATIONS,
    *client_links.MUTATIONS,
    *messaging.MUTATIONS,
    *invariants.MUTATIONS,
)
