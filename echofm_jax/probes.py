"""What frozen features tell: linear heads and nearest neighbours, fitted on some patients only.

Regularisation is chosen by cross-validation over patients of the training set; nothing is fitted
to the clips that are scored.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

NEIGHBOURS = 5
ALPHAS = np.logspace(0, 6, 7)  # ridge penalties tried; features have unit variance
FOLDS = 3


def fit_ridge(
    x: np.ndarray, y: np.ndarray, groups: Sequence[str], weights: np.ndarray | None = None
) -> "Pipeline":
    """Ridge regression of y [n] or [n, k] on x [n, F], its strength chosen over groups.

    Features are standardised; `weights` [n] of rows.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = RidgeCV(ALPHAS, cv=folds(groups))
    return make_pipeline(StandardScaler(), head).fit(x, y, ridgecv__sample_weight=weights)


def folds(groups: Sequence[str]) -> list | None:
    """Splits of [n] groups for cross-validation; None, leave-one-out, if a single row was left out.

    R², by which the penalty is chosen, is not defined of one.
    """
    from sklearn.model_selection import GroupKFold

    count = len(set(groups))
    if count < 2:
        return None
    found = list(GroupKFold(min(FOLDS, count)).split(np.zeros(len(groups)), groups=groups))
    return found if min(len(held) for _, held in found) > 1 else None


def linear_values(
    x: np.ndarray, y: np.ndarray, groups: Sequence[str], test: np.ndarray
) -> np.ndarray:
    """Values [k] of test features [k, F], by ridge regression fitted on x [n, F] and y [n]."""
    return fit_ridge(x, y, groups).predict(test)


def linear_labels(
    x: np.ndarray, y: np.ndarray, groups: Sequence[str], test: np.ndarray
) -> np.ndarray:
    """Labels [k] of test features [k, F], by ridge regression of the classes' indicators.

    The class whose indicator lies furthest above its mean: however strong the penalty, how common
    a class is does not decide. y: [n] labels of x [n, F].
    """
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) == 1:
        return np.repeat(classes, len(test))
    indicators = np.eye(len(classes))[index] - np.bincount(index) / len(index)
    return classes[fit_ridge(x, indicators, groups).predict(test).argmax(1)]


def nearest(x: np.ndarray, test: np.ndarray) -> np.ndarray:
    """[k, NEIGHBOURS] rows of x [n, F] that are nearest to each test row [k, F], by cosine."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(x)
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x)), metric="cosine")
    return search.fit(scale.transform(x)).kneighbors(scale.transform(test), return_distance=False)


def nearest_values(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """[k] the mean value of each test row's nearest neighbours."""
    return y[nearest(x, test)].mean(1)


def nearest_labels(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """[k] the commonest label of each test row's nearest neighbours; of equals the first one."""
    classes, index = np.unique(y, return_inverse=True)
    votes = np.eye(len(classes))[index][nearest(x, test)].sum(1)  # [k, classes]
    return classes[votes.argmax(1)]
