"""What every test starts from."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny networks gain nothing from threads, which crawl where the cores are busy."""
    torch.set_num_threads(1)
