import pytest

from metacog.data.lengths import LengthProbe


@pytest.mark.parametrize(
    ("seen", "expected"), [([5], 10), ([12], 12), ([12, 11, 3], 12), ([99, 12], 50)]
)
def test_max_len_is_raised_within_the_context_and_never_lowered(
    seen: list[int], expected: int
) -> None:
    probe = LengthProbe(10, context=50, is_on=True)
    for length in seen:
        before = probe.max_len
        probe.see(length)
        assert probe.max_len >= before
    assert probe.max_len == expected
    assert probe.longest_seen == max(seen)


def test_switched_off_it_only_takes_note() -> None:
    probe = LengthProbe(10, context=50, is_on=False)
    probe.see(40)
    assert (probe.max_len, probe.longest_seen) == (10, 40)


def test_the_context_bounds_the_start() -> None:
    assert LengthProbe(2048, context=1024, is_on=True).max_len == 1024


def test_processes_share_the_maximum() -> None:
    probes = [LengthProbe(10, context=50, is_on=True) for _ in range(3)]
    for probe, length in zip(probes, (20, 5, 30), strict=True):
        probe.see(length)
    asked = iter([p.max_len for p in probes])
    assert list(asked) == [20, 10, 30]
    for probe in probes:
        probe.agree(lambda value: max(value, 30))
    assert [(p.max_len, p.longest_seen) for p in probes] == [(30, 30)] * 3
    probes[0].agree(lambda _: 1)
    assert probes[0].max_len == 30
