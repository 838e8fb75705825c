"""The exact test of two paired fractions: its error never exceeds 5 %."""

import numpy as np
import pytest
from scipy import stats

from tf_image_classification.evaluation.paired_fractions import PairedFractions

ALPHA = 0.05


def fewest_gained(lost, count, margin):
    """The fewest gained examples with which a loss of the margin is excluded."""
    low, high = 0, count - lost + 1
    while low < high:
        middle = (low + high) // 2
        if PairedFractions(middle, lost, count).p_below(-margin) <= ALPHA:
            high = middle
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize(("count", "margin"), [(40, 0.1), (60, 0.05), (100, 0.01)])
def test_the_error_is_at_most_five_percent_whatever_part_of_the_examples_changes(count, margin):
    lost = np.arange(count + 1)
    fewest = np.array([fewest_gained(each, count, margin) for each in lost.tolist()])
    errors = []
    for changed in np.linspace(margin, 1, 120):
        of_lost = (changed + margin) / 2
        tail = stats.binom.sf(fewest - 1, count - lost, (changed - of_lost) / (1 - of_lost))
        errors.append((stats.binom.pmf(lost, count, of_lost) * tail).sum())
    assert 0.02 < max(errors) <= ALPHA


def test_no_change_needs_as_many_examples_as_the_rule_of_three():
    assert PairedFractions(0, 0, 20).p_below(-0.01) > 0.8
    needed = np.log(ALPHA) / np.log(0.99)  # 298 without a single change
    assert PairedFractions(0, 0, int(needed) - 5).p_below(-0.01) > ALPHA
    assert PairedFractions(0, 0, int(needed) + 10).p_below(-0.01) <= ALPHA


@pytest.mark.parametrize("outcome", [(3, 5, 153), (20, 2, 60), (0, 0, 33), (40, 44, 2000)])
def test_the_interval_holds_the_differences_that_are_not_rejected(outcome):
    found = PairedFractions(*outcome)
    low, high = found.interval(ALPHA)
    assert low < found.value < high
    assert found.p_below(low - 0.004) <= ALPHA < found.p_below(low + 0.004)
    assert found.p_above(high + 0.004) <= ALPHA < found.p_above(high - 0.004)


def test_swapped_models_give_the_mirrored_interval():
    low, high = PairedFractions(7, 3, 90).interval(ALPHA)
    assert PairedFractions(3, 7, 90).interval(ALPHA) == pytest.approx((-high, -low))


def test_without_a_margin_it_agrees_with_the_exact_test_of_mcnemar():
    ours = PairedFractions(18, 4, 300).p_below(0.0)
    mcnemar = stats.binomtest(18, 22, alternative="greater").pvalue
    assert ours == pytest.approx(mcnemar, abs=0.005)


def test_ends_that_nothing_can_exceed():
    assert PairedFractions(0, 10, 10).interval(ALPHA)[0] == -1
    assert PairedFractions(10, 0, 10).interval(ALPHA)[1] == 1
    assert PairedFractions(5, 5, 10).p_below(1.0) == 1
    assert PairedFractions(5, 5, 10).p_below(-1.0) == 0
