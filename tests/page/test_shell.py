"""The page at `/`, as a visitor sees it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow


def test_the_page_names_itself(page: Page) -> None:
    expect(page).to_have_title("Saccade")
    expect(page.get_by_role("heading", name="Saccade")).to_be_visible()
