"""Artefacts, compared with the compact student in their runtimes."""

import numpy as np
import pytest
import torch
from torch import nn

from kdx.exporting.artefact import check, fitted
from kdx.exporting.source import open_source
from kdx.tasks import Classification
from kdx.util.errors import CertificateError


def test_a_fixed_batch_takes_any_number_of_images():
    def three(images):
        assert len(images) == 3
        return images.sum((1, 2, 3))

    images = np.random.default_rng(0).normal(size=(7, 1, 2, 2))
    assert fitted(three, 3)(images) == pytest.approx(images.sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda x: x * np.nan, r"largest error is nan"),
        (lambda x: x[:, :2], r"its outputs are \[.*, 2\]"),
        (lambda x: 1 / 0, r"does not run: ZeroDivisionError"),
        (lambda x: -x, r"error is 2 of the largest logit on 4 images, the tolerance 0\.0001"),
        (lambda x: x[:, ::-1].copy(), r"3 of 4 predictions changed on 4 images, at most 1 may"),
    ],
)
def test_a_wrong_runtime_is_refused(run_dir, tmp_path, answers, message):
    source = open_source(run_dir, None)
    student, task = nn.Flatten(), Classification(num_classes=3)

    class Views:
        shape = (1, 1, 3)

        def __len__(self):
            return 4

        def __getitems__(self, keys):
            images = (1 + 1e-5 * torch.eye(3))[[0, 1, 2, 0]][[i for _, i in keys]][:, None, None]
            return type(source.views.__getitems__([(0, 0)]))(
                images, images.argmax(3).flatten(), torch.zeros(len(keys))
            )

    def opened(path, threads):
        return lambda images: answers(images.reshape(len(images), -1))

    with pytest.raises(CertificateError, match=message):
        check(opened, tmp_path / "a", student, Views(), task)


def test_an_image_that_cannot_be_read_is_no_fault_of_the_artefact(run_dir, tmp_path):
    source = open_source(run_dir, None)

    class Views:
        shape = (1, 1, 3)

        def __len__(self):
            return 4

        def __getitems__(self, keys):
            raise ValueError("a.jpg is damaged")

    def opened(path, threads):
        return lambda images: images

    with pytest.raises(ValueError, match=r"^a\.jpg is damaged"):
        check(opened, tmp_path / "a", nn.Flatten(), Views(), source.opened.task)
