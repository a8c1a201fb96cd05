from functools import partial
from itertools import chain

import pytest
import torch
from PIL import Image

from kdx.data.augment import Augment
from kdx.data.files import FileImages
from kdx.data.loading import EpochBatches, eval_loader, steps_per_epoch, train_loader
from kdx.data.sources import MemoryImages
from kdx.data.views import Views
from kdx.protocols import InputSpec

SPEC = InputSpec(1, 4, (0.5,), (0.5,))


def views(n: int, augment: Augment | None = None) -> Views:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return Views(MemoryImages(images, torch.zeros(n).long(), "toy"), SPEC, seed=0, augment=augment)


def batches(n: int, *, epoch: int = 0, **arguments) -> list[list[tuple[int, int]]]:
    sampler = EpochBatches(n, seed=0, **arguments)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_any_number_of_processes_sees_the_same_global_batches(world):
    whole = batches(100, batch_size=20)
    parts = [batches(100, batch_size=20, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert list(chain(*shares)) == batch
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_an_epoch_is_each_sample_once_in_its_own_order():
    first, second = (list(chain(*batches(50, batch_size=8, epoch=e))) for e in (0, 1))
    assert sorted(first) == [(0, i) for i in range(50)]
    assert sorted(second) == [(1, i) for i in range(50)]
    assert [i for _, i in first] != [i for _, i in second]


def test_views_recur_in_the_order_of_the_epoch():
    for epoch in range(7):
        plain = list(chain(*batches(50, batch_size=8, epoch=epoch)))
        recurring = list(chain(*batches(50, batch_size=8, epoch=epoch, views=3)))
        assert recurring == [(epoch % 3, index) for _, index in plain]
    sampler = EpochBatches(50, batch_size=8, seed=0, views=3)
    sampler.set_epoch(7)
    assert sampler.view == 1


LABELS = torch.tensor([3] * 40 + [7] * 8 + [0] * 2)  # C is 3; 50 samples: 17, 17 and 16


def test_a_balanced_epoch_has_as_many_of_each_class():
    seen, extra = set(), set()
    for epoch in range(4):
        order = list(chain(*batches(50, batch_size=10, epoch=epoch, labels=LABELS)))
        assert order == list(chain(*batches(50, batch_size=10, epoch=epoch, labels=LABELS)))
        kinds = LABELS[[index for _, index in order]]
        counts = {kind: int((kinds == kind).sum()) for kind in (3, 7, 0)}
        assert sorted(counts.values()) == [16, 17, 17]
        extra.add(min(counts, key=counts.__getitem__))
        large = [index for _, index in order if index < 40]
        plain = [index for _, index in chain(*batches(50, batch_size=10, epoch=epoch))]
        assert large == [index for index in plain if index < 40][: len(large)]  # each once
        times = torch.tensor([index for _, index in order]).bincount(minlength=50)
        assert times[40:48].max() - times[40:48].min() <= 1
        assert times[48:].max() - times[48:].min() <= 1
        assert len(set(order)) == 50
        assert not seen & set(order)  # no view comes again
        assert {number // 9 for number, _ in order} == {epoch}  # 17 of two samples: nine of one
        seen |= set(order)
        assert not torch.equal(kinds, kinds.sort().values)
    assert len(extra) == 3  # the class that has one less changes


def test_a_balanced_epoch_is_shared_recurs_and_repeats():
    balanced = partial(batches, 50, batch_size=10, epoch=1, labels=LABELS)
    whole, halves = balanced(), [balanced(rank=rank, world=2) for rank in (0, 1)]
    assert [[*one, *two] for one, two in zip(*halves, strict=True)] == whole
    order = list(chain(*whole))
    recurring = list(chain(*balanced(views=1)))
    assert recurring == [(0, index) for _, index in order]  # as in a memo of one view
    repeated = list(chain(*balanced(repeats=2)))
    assert repeated == [(2 * number + k, index) for number, index in order[:25] for k in (0, 1)]
    sampler = EpochBatches(50, batch_size=10, seed=0, labels=LABELS)
    sampler.set_epoch(1, first_step=3)
    assert list(sampler) == whole[3:]
    even = torch.arange(50) % 5
    assert EpochBatches(50, batch_size=10, seed=0, labels=even).times == 1


def test_repeated_augmentation():
    """Of the first samples of the epoch's order, three views each, which no other epoch has."""
    for epoch in range(3):
        plain = list(chain(*batches(50, batch_size=8, epoch=epoch)))
        repeated = list(chain(*batches(50, batch_size=8, epoch=epoch, repeats=3)))
        expected = [(3 * epoch + k, index) for _, index in plain for k in range(3)]
        assert repeated == expected[:50]
        recurring = list(chain(*batches(50, batch_size=8, epoch=epoch, repeats=3, views=1)))
        assert recurring == [(0, index) for _, index in repeated]
    halves = [batches(48, batch_size=8, rank=rank, world=2, repeats=3) for rank in (0, 1)]
    together = [[*one, *two] for one, two in zip(*halves, strict=True)]
    assert together == batches(48, batch_size=8, repeats=3)


@pytest.mark.parametrize(
    ("n", "world", "steps"),
    [(16, 1, 2), (17, 1, 2), (18, 1, 3), (19, 2, 2), (20, 2, 3), (5, 2, 1), (8, 4, 1)],
)
def test_a_last_batch_needs_two_samples_a_rank(n, world, steps):
    assert steps_per_epoch(n, batch_size=8, world=world) == steps
    for rank in range(world):
        parts = batches(n, batch_size=8, rank=rank, world=world)
        assert len(parts) == len(EpochBatches(n, batch_size=8, seed=0, world=world)) == steps
        assert min(map(len, parts)) >= 2


def test_the_size_of_a_global_batch():
    sampler = EpochBatches(20, batch_size=8, seed=0, rank=1, world=2)
    assert [sampler.size(step) for step in range(sampler.steps)] == [8, 8, 4]


def test_an_epoch_can_be_entered_at_any_step():
    sampler = EpochBatches(50, batch_size=8, seed=0)
    sampler.set_epoch(4)
    whole = list(sampler)
    sampler.set_epoch(4, first_step=3)
    assert len(sampler) == 4
    assert list(sampler) == whole[3:]


def test_batches_that_cannot_be():
    message = r"batch_size: 5 .* is too small: 3 processes share it, use 6"
    with pytest.raises(ValueError, match=message):
        steps_per_epoch(100, batch_size=5, world=3)
    with pytest.raises(ValueError, match=r"batch_size: 1 .* too small: BatchNorm cannot train"):
        steps_per_epoch(100, batch_size=1)
    with pytest.raises(ValueError, match="3 training samples: not enough for 2 proc"):
        EpochBatches(3, batch_size=8, seed=0, world=2)


def test_workers_change_nothing_and_the_ambient_generator_is_left_alone():
    data = views(50, Augment(crop=1, flip=True))
    runs = []
    state = torch.get_rng_state()
    for workers in (0, 2):
        sampler = EpochBatches(50, batch_size=8, seed=0)
        loader = train_loader(data, sampler, workers=workers)
        run = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            run += list(loader)
        runs.append(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(runs[0]) == len(runs[1]) == 14
    for one, other in zip(*runs, strict=True):
        assert all(map(torch.equal, one, other))


def test_workers_pass_bytes_on_which_the_loader_normalises_in_the_layout_asked_for():
    images = torch.arange(6 * 3 * 16, dtype=torch.uint8).view(6, 3, 4, 4)
    source = MemoryImages(images, torch.zeros(6).long(), "toy")
    spec = InputSpec(3, 4, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    data, keys = Views(source, spec, seed=0), [[(0, 4), (0, 1)], [(0, 3), (0, 0)]]
    layouts = (False, torch.contiguous_format), (True, torch.channels_last)
    for channels_last, layout in layouts:
        loader = train_loader(data, keys, channels_last=channels_last, device=torch.device("cpu"))
        assert [batch.images.dtype for batch in loader.drawn] == [torch.uint8] * 2
        assert len(loader) == 2
        for batch, expected in zip(loader, map(data.__getitems__, keys), strict=True):
            assert batch.images.is_contiguous(memory_format=layout)
            assert all(map(torch.equal, batch, expected))


def test_a_view_does_not_depend_on_rank_or_batch():
    data = views(30, Augment(crop=1, flip=True))
    seen = []
    for batch_size, world in ((30, 1), (10, 2), (7, 3)):
        images = torch.zeros(30, 1, 4, 4)
        for rank in range(world):
            sampler = EpochBatches(30, batch_size=batch_size, seed=5, rank=rank, world=world)
            sampler.set_epoch(2)
            for batch in train_loader(data, sampler):
                images[batch.indices] = batch.images
        seen.append(images)
    assert torch.equal(seen[0], seen[1])
    present = seen[2].flatten(1).any(1)
    assert present.sum() == 28  # the last two of 30 are too few for three ranks
    assert torch.equal(seen[0][present], seen[2][present])


@pytest.mark.parametrize("n", [1, 10, 13, 16, 17])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_each_sample_once(n, world):
    seen = []
    for rank in range(world):
        for batch in eval_loader(views(n), batch_size=8, rank=rank, world=world):
            assert 1 <= len(batch.targets) <= 8 // world
            seen += batch.indices.tolist()
    assert seen == list(range(n))


def test_a_damaged_file_is_named_through_a_worker(tmp_path):
    path = tmp_path / "damaged.png"
    Image.new("RGB", (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    spec = InputSpec(3, 4, (0.5,) * 3, (0.5,) * 3)
    data = Views(FileImages([str(path)], torch.zeros(1).long()), spec, seed=0)
    with pytest.raises(ValueError, match=r"damaged\.png: the image cannot be decoded"):
        list(eval_loader(data, batch_size=1, workers=1))
