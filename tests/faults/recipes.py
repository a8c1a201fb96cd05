"""Hostile recipes, as strategies of hypothesis: values, structures, and texts."""

import copy
from pathlib import Path

import yaml
from hypothesis import strategies as st

__all__ = ["FULL", "SHIPPED", "hostile", "mutated", "overrides", "texts", "valid"]

SHIPPED = sorted(Path(__file__).parents[2].glob("configs/*/*.yaml"))

FULL = {
    "name": "fuzzed/run",
    "seed": 0,
    "data": {"use": "digits", "batch_size": 16, "limit": 64, "augment": {"crop": 2, "flip": True}},
    "teacher": {"use": "smallnet", "allow_chance": True, "memo": {"views": 2, "top": 3}},
    "student": {
        "use": "smallnet",
        "kernel_size": 3,
        "transforms": [{"use": "expand.ExpandNet", "conv": "cl", "linear": True, "rate": 2}],
    },
    "losses": [
        {"use": "cross_entropy", "weight": 0.5},
        {"use": "kd", "temperature": 4, "name": "soft"},
        {"use": "hint", "student_layer": "fc1", "teacher_layer": "fc1"},
    ],
    "optimizer": {
        "use": "SGD",
        "lr": 0.01,
        "momentum": 0.9,
        "no_decay": ["norm", "*.bias"],
        "layer_decay": 0.9,
        "groups": [{"match": "fc*", "lr": 0.1, "weight_decay": 0.01}],
    },
    "schedule": {"use": "multistep", "milestones": [0.5], "gamma": 0.1, "warmup": 0.1},
    "stages": [{"name": "first", "phase": "nonlinear", "epochs": 1}, {"phase": "linear"}],
    "epochs": 2,
    "threads": 1,
    "clip": 1.0,
    "tolerance": {"float32": 1e-4},
}
"""A recipe with something of everything, which runs in a moment."""

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 10**6, 10**9, 10**12, 10**18, 2**63, 10**299, 10**400]),
    st.integers(),
    st.floats(),
    st.sampled_from([1e-320, 1e18, 1e308, -0.0]),
)
PATHS = st.sampled_from(
    ["..", "../..", "/", "/etc/passwd", "/tmp/escaped", "runs/../../x", "runs//etc", "~/x", ".",
     "runs/x", "\0", "a\nb", "/dev/zero", "/proc/self/mem", "-rf", "$HOME", "a/" * 300,
     "[/bold]", "[red]", "runs/[/x]", "\x1b[31m", "\u202e", "\ud800", "é", "😀"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["os.system", "builtins.eval", "kdx.models.weights.os.system", "kdx.__init__.os",
     "kdx.recipe.load",
     "kdx.__doc__.join", "expand.__loader__.x", "teachers.zoo.torchvision", "torch.load",
     "kdx.protocols.ImageData", "kdx.models.networks.build_student", "expand.expand",
     "kdx.models.transforms.restore",
     "timm", "torchvision", "teachers.timm", "hf-hub:a/b", "local-dir:/tmp", "kdx." + "a." * 400,
     "smallnet", "SGD", "Adam", "LBFGS", "Muon", "kd", "pkt", "cosine", "image_folder", "..."]
)  # fmt: skip
SCALARS = st.one_of(NUMBERS, PATHS, NAMES, st.none(), st.booleans(), st.text(max_size=20))
SNIPPETS = st.sampled_from(
    ["&a ", "*a", "<<: *a\n", "!!python/object/apply:os.system [touch ran] ", "!include /x",
     "%YAML 1.1\n---\n", "%TAG ! tag:x,2000:\n---\n", "---\n", "...\n", "\0", "\t", "\x07",
     "\u2028", "\x85", "? ", "- ", ": ", "{", "[", "}", "]", "'", '"', "|\n", ">-\n", "# ",
     "\ufeff", "a: 1\n", "data: {}\n", "seed: 1\n", "[" * 200, "{a: " * 50, "x" * 70_000, "\r"]
)  # fmt: skip


def hostile() -> st.SearchStrategy:
    """Anything that YAML can hold, and much that a recipe cannot."""
    return st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=8,
    )


@st.composite
def mutated(draw, bases, values=None):
    """One of `bases` with one to four of its values replaced, removed, added or doubled."""
    data = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 4))):
        holder, key = draw(st.sampled_from(list(_places(data))))
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "double"]))
        value = draw(values if values is not None else hostile())
        if what == "replace":
            holder[key] = value
        elif what == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]) if what == "double" else value)
        else:
            name = draw(
                st.sampled_from([*KEYS, str(key)]) if what == "add" else st.text(max_size=9)
            )
            holder[name] = copy.deepcopy(holder[key]) if what == "double" else value
        if not isinstance(data, dict) or not data:
            break
    return data


KEYS = ("use", "weights", "recipe", "memo", "input", "pretrained", "checkpoint_path", "cache_dir",
        "workers", "validation", "size", "channels", "root", "widths", "overrides", "directory",
        "capturable", "differentiable", "features_only", "in_channels", "image_size")  # fmt: skip


def _places(data):
    """Every place of a value: its holder, and its key or index."""
    entries = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(entries):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


@st.composite
def texts(draw):
    """The bytes of a shipped recipe, cut, spliced and spiked; or bytes of no recipe."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    text = draw(st.sampled_from([path.read_text() for path in SHIPPED]))
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        spike = draw(st.one_of(SNIPPETS, st.text(max_size=5)))
        text = text[:at] + spike + text[draw(st.sampled_from([at, end])) :]
    return text.encode("utf-8", "surrogatepass")


@st.composite
def overrides(draw):
    """Overrides of anything by anything."""
    key = draw(st.one_of(
        st.sampled_from(["epochs", "data.batch_size", "losses.0.weight", "losses.9.weight",
                         "a.999999999", "stages.0.0.0", "student.transforms.1", "data", "x." * 50]),
        st.text(max_size=12),
    ))  # fmt: skip
    value = draw(st.one_of(SNIPPETS, st.text(max_size=9), hostile().map(lambda v: _flow(v))))
    return key + draw(st.sampled_from(["=", "=", "=", ""])) + value


def _flow(value) -> str:
    return yaml.dump(value, default_flow_style=True, allow_unicode=True)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
OWN = {"use", "name", "weights", "transforms", "num_classes", "in_channels"}


@st.composite
def valid(draw):
    """A recipe that is right in every value, with arguments of any shape where any will do."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**290), 10**290),
        st.floats(allow_nan=False),
        TEXT,
    )
    nested = st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
        ),
        max_leaves=6,
    )
    free = st.dictionaries(TEXT.filter(lambda key: key not in OWN), nested, max_size=4)
    data = copy.deepcopy(FULL)
    data["student"] = {"use": "timm", "name": draw(TEXT), **draw(free)}
    data["student"]["transforms"] = FULL["student"]["transforms"]
    data["seed"] = draw(st.integers(0, 2**63 - 1))
    data["epochs"] = draw(st.integers(1, 10**6))
    data["clip"] = draw(st.none() | st.floats(0, exclude_min=True, allow_infinity=False))
    data["losses"][0]["weight"] = draw(st.floats(0, allow_infinity=False))
    data["data"]["validation"] = draw(st.none() | st.integers(1) | st.floats(0.01, 0.99))
    data["data"]["augment"]["resized_crop"] = resized = draw(st.none() | st.just([0.08, 1]))
    data["data"]["augment"]["crop"] = 0 if resized else 2
    data["teacher"]["weights"] = draw(st.none() | st.sampled_from(["runs/a", "a: b", "1", "é#"]))
    return data
