"""Hypothesis strategies: signatures, and values that they describe."""

from hypothesis import strategies as st

from wlproxy.protocol.dbus.signatures import complete_types
from wlproxy.protocol.dbus.values import Value, Variant

_TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
_PATHS = st.lists(st.sampled_from(["org", "qemu", "Display1", "_0"]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    half = 1 << (bits - 1)
    return st.integers(-half, half - 1) if signed else st.integers(0, 2 * half - 1)


BASIC: dict[str, st.SearchStrategy[Value]] = {
    "y": _integers(8, signed=False),
    "n": _integers(16, signed=True),
    "q": _integers(16, signed=False),
    "i": _integers(32, signed=True),
    "u": _integers(32, signed=False),
    "x": _integers(64, signed=True),
    "t": _integers(64, signed=False),
    "d": st.floats(allow_nan=False),
    "b": st.booleans(),
    "s": _TEXTS,
    "o": _PATHS,
    "g": st.sampled_from(["", "u", "a{sv}", "(iiu)ay"]),
}

_ONE_TYPE = st.recursive(
    st.sampled_from([*BASIC, "v"]),
    lambda inner: st.one_of(
        inner.map("a{}".format),
        st.lists(inner, min_size=1, max_size=3).map(lambda x: f"({''.join(x)})"),
        st.tuples(st.sampled_from("ysuxo"), inner).map(lambda x: f"a{{{x[0]}{x[1]}}}"),
    ),
    max_leaves=5,
)
signatures = st.lists(_ONE_TYPE, max_size=4).map("".join)


def values(kind: str) -> st.SearchStrategy[Value]:
    """Values of one complete type."""
    if kind in BASIC:
        return BASIC[kind]
    if kind == "v":
        return st.sampled_from(["u", "as", "(sv)"]).flatmap(
            lambda inner: st.builds(Variant, st.just(inner), values(inner))
        )
    if kind == "ay":
        return st.binary(max_size=20)
    if kind.startswith("a{"):
        return st.dictionaries(values(kind[2]), values(kind[3:-1]), max_size=3)
    if kind.startswith("a"):
        return st.lists(values(kind[1:]), max_size=3)
    return st.tuples(*map(values, complete_types(kind[1:-1])))


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, tuple[Value, ...]]:
    """Draw a signature, and a value of each of its types."""
    signature = draw(signatures)
    return signature, draw(st.tuples(*map(values, complete_types(signature))))
