import pytest

from attentive_integration.sandbox.process import SandboxProcess

from .world import World


@pytest.fixture
def world(sandbox: SandboxProcess) -> World:
    """Return a site of its own that is connected to the sandbox."""
    return World(sandbox)
