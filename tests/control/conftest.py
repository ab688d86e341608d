import pytest
from control_cases import make_contract, make_policy


@pytest.fixture
def contract():
    return make_contract()


@pytest.fixture
def policy(contract):
    return make_policy(contract)
