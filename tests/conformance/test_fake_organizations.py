import pytest
from typing_extensions import override

from service.realtime.organizations import OrganizationTables
from tests.conformance.organizations import OrganizationTablesSuite
from tests.support.organizations import FakeOrganizationTables


class TestFakeOrganizationTables(OrganizationTablesSuite):
    """The suite on the fake."""

    @pytest.fixture
    @override
    def tables(self) -> OrganizationTables:
        """Empty ones."""
        return FakeOrganizationTables()
