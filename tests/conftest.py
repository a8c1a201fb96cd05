"""What every test starts from."""

import gc
import os

import pytest
import torch


def pytest_collection_finish():
    """Let garbage collections, of which a run makes one a stage, pass over what is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny networks gain nothing from threads, which crawl where the cores are busy."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_fsync():
    """Files of tests need not survive a power cut: it takes a tenth of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield
