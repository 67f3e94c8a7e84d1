"""What labels say, yes or no, and images drawn so that they say both as often."""

import numpy as np


def decide(values: np.ndarray, no_below: float, yes_above: float) -> np.ndarray:
    """What labels [N, K] say: float32, 1 above `yes_above`, 0 below `no_below`, else NaN.

    >>> decide(np.array([[0.1], [0.5], [0.9]]), no_below=0.3, yes_above=0.7).tolist()
    [[0.0], [nan], [1.0]]
    """
    said = np.full(values.shape, np.nan, np.float32)
    said[values > yes_above] = 1
    said[values < no_below] = 0
    return said


def balanced_weights(said: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Probabilities [N] under which each column of `said` [N, K] is as often 1 as 0.

    By raking: column after column, the weights of its yes and of its no are scaled to equal
    sums, until all agree (or as nearly as the images allow); images of unknown label keep theirs.
    Every column must hold both.

    >>> balanced_weights(np.array([[1], [0], [0], [0], [0]])).round(3).tolist()
    [0.5, 0.125, 0.125, 0.125, 0.125]
    """
    weights = np.ones(len(said))
    for _ in range(rounds):
        for column in said.T:
            yes, no = column == 1, column == 0
            half = (weights[yes].sum() + weights[no].sum()) / 2
            weights[yes] *= half / weights[yes].sum()
            weights[no] *= half / weights[no].sum()
    return weights / weights.sum()
