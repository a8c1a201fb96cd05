"""Which directories a run may be written to, and what becomes of a run that stood there."""

import pytest

from kdx.run.run import run
from kdx.util.errors import TrainingError
from tests.unit.runs import EXPAND, FILES, contents, listed, same


def test_a_run_is_replaced_only_when_asked(recipe, console):
    first = contents(run(recipe(), console))
    with pytest.raises(FileExistsError, match=r"digits/plain already exists: pass --resume"):
        run(recipe("seed=1"), console)
    run_dir = run(recipe("seed=1"), console, overwrite=True)
    assert not same(first, contents(run_dir))
    assert len(listed(run_dir / "tensorboard")) == 1
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_is_no_run_is_never_replaced(recipe, console):
    place = recipe().run_dir
    place.mkdir(parents=True)
    (place / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"digits/plain is not a run of kdx: it is not repl"):
        run(recipe(), console, overwrite=True)
    assert listed(place) == ["thesis.tex"]


def test_an_empty_directory_is_no_run(recipe, console):
    recipe().run_dir.mkdir(parents=True)
    assert listed(run(recipe(), console)) == FILES


def test_a_run_that_trained_nothing_does_not_keep_its_name(recipe, console):
    untaught = recipe("teacher={use: smallnet}", "losses=[{use: kd}]")
    with pytest.raises(ValueError, match="is no better than chance"):
        run(untaught, console)
    run_dir = untaught.run_dir
    assert listed(run_dir) == ["recipe.yaml"]
    (run_dir / "tensorboard").mkdir()
    (run_dir / "tensorboard" / "events.of.an.interrupted.run").touch()
    assert run(recipe(), console) == run_dir
    assert listed(run_dir) == FILES
    assert len(listed(run_dir / "tensorboard")) == 1


def test_a_run_that_trained_an_epoch_keeps_its_name(recipe, console):
    run_dir = recipe().run_dir
    run_dir.mkdir(parents=True)
    for name in ("recipe.yaml", "metrics.jsonl"):
        (run_dir / name).touch()
    with pytest.raises(FileExistsError, match=r"digits/plain already exists"):
        run(recipe(), console)


def test_a_run_that_is_overwritten_is_lost_only_when_the_new_one_succeeds(recipe, console):
    what = recipe(EXPAND, "epochs=1")
    run_dir = run(what, console)
    kept = contents(run_dir)
    aside = run_dir.with_name(run_dir.name + ".replaced")
    with pytest.raises(TrainingError, match=r"training diverged: .* kept in .*plain\.rep"):
        run(recipe(EXPAND, "optimizer.lr=1e30", "epochs=2"), console, overwrite=True)
    assert same(contents(aside), kept)
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=r"plain\.replaced is the run that .* still kept"):
            run(recipe(EXPAND, "epochs=1", "seed=3"), console, resume=resume)
    assert same(contents(aside), kept)
    run(what, console, overwrite=True)
    assert not aside.exists()
    assert same(contents(run_dir), kept)


def test_files_that_kdx_did_not_write_keep_a_replaced_run(recipe, console):
    run_dir = run(recipe("epochs=1"), console)
    (run_dir / "mine").mkdir()
    (run_dir / "mine/notes.txt").touch()
    run(recipe("epochs=1", "seed=1"), console, overwrite=True)
    aside = run_dir.with_name("plain.replaced")
    assert f"{aside} is kept: kdx did not write mine" in console.file.getvalue()
    assert (aside / "mine/notes.txt").is_file()
    assert listed(run_dir) == FILES
    with pytest.raises(FileExistsError, match="is kept: kdx did not write mine: move it, to repl"):
        run(recipe("epochs=1", "seed=2"), console, overwrite=True)


def test_a_finished_run_is_not_removed_for_an_older_one_aside(recipe, console):
    run_dir = run(recipe("epochs=1"), console)
    older = contents(run_dir)
    aside = run_dir.with_name("plain.replaced")
    run_dir.rename(aside)
    (aside / ".replaced").touch()  # as if killed before it was removed
    newer = run(recipe("epochs=1", "seed=1", "name=digits/newer"), console)
    newer.rename(run_dir)
    finished = contents(run_dir)
    with pytest.raises(TrainingError, match="training diverged"):
        run(recipe("epochs=1", "optimizer.lr=1e20"), console, overwrite=True)
    assert same(contents(aside), finished)
    assert not same(contents(aside), older)


def test_files_that_kdx_did_not_write_keep_a_run_that_never_finished(recipe, console):
    run_dir = run(recipe("epochs=1"), console)
    with pytest.raises(TrainingError, match="training diverged"):
        run(recipe("epochs=1", "optimizer.lr=1e20"), console, overwrite=True)
    (run_dir / "notes.txt").touch()
    (run_dir / "epoch_0001.safetensors").touch()  # of kdx compress
    with pytest.raises(FileExistsError, match=r"kdx did not write notes.txt: move what is to be"):
        run(recipe("epochs=1"), console, overwrite=True)
    assert (run_dir / "notes.txt").is_file()
    (run_dir / "notes.txt").unlink()
    assert listed(run(recipe("epochs=1"), console, overwrite=True)) == FILES
