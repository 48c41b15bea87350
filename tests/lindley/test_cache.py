from hypothesis import given
from hypothesis import strategies as st

from lindley.cache import Recent


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 25))
def test_it_gives_what_reading_would_within_its_bound(keys: list[int], most: int) -> None:
    held: Recent[tuple[int, int]] = Recent(most, lambda value: value[1])
    for key in keys:
        assert held.get(key, lambda key=key: (key, key)) == (key, key)
        assert sum(size for _, size in held._values.values()) == held._values.currsize <= most


def test_what_is_held_is_not_read_again_and_the_oldest_goes_first() -> None:
    read: list[str] = []
    held: Recent[str] = Recent(2, lambda _: 1)

    def get(key: str) -> str:
        return held.get(key, lambda: read.append(key) or key)

    for key in ("a", "b", "a", "c", "a", "b"):
        assert get(key) == key
    assert read == ["a", "b", "c", "b"]
    held.clear()
    get("a")
    assert read == ["a", "b", "c", "b", "a"]


def test_what_is_larger_than_the_bound_is_not_held() -> None:
    held: Recent[str] = Recent(3, len)
    held.get("small", lambda: "abc")
    assert held.get("large", lambda: "abcd") == "abcd"
    assert held.get("small", lambda: "read again") == "abc"
