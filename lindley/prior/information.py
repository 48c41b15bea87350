"""The additive information form: the prior's precision plus what the batch adds to it.

Under a normal prior with mean m and precision P, and with g the gradient of the log likelihood, the exact
posterior fulfils (Stein's identities for its first two moments)

    E[g] = P (E[u] - m),        Cov[u, g] = Cov[u] P - I

With B the slope of the regression of g on u that is P_new = P - B and P_new E[u] = P m + a with a the
intercept: the information adds up, and the noise of the draws enters only where g is not linear in u. By
Bonnet's and Price's theorems B is the expected Hessian of the log likelihood when the posterior is normal
(Opper & Archambeau 2009, Neural Computation 21:786). For a normal likelihood the result is exact for any
number of draws.
"""

from __future__ import annotations

import numpy as np

from lindley.prior.matching import covariance_factor
from lindley.prior.triangular import TriangularMap, joint_normal


def information_map(
    draws: np.ndarray, scores: np.ndarray, prior: TriangularMap, names: list[str]
) -> TriangularMap | None:
    """Return the joint normal whose precision is the prior's plus the batch's.

    Parameters
    ----------
    draws
        Posterior draws, array [draw, coordinate].
    scores
        Gradient of the log target at the draws, array [draw, coordinate].
    prior
        The map of the prior, a joint normal.
    names
        Names of the coordinates, for errors.

    Returns
    -------
    TriangularMap or None
        None where the prior is no joint normal, or the precision is not positive definite: noise, or a
        likelihood far from log-concave.
    """
    if not prior.normal:
        return None
    factor = np.zeros((prior.size, prior.size))
    factor[prior.order] = prior.linear + np.diag(np.exp(prior.log_width))
    mean = np.zeros(prior.size)
    mean[prior.order] = prior.loc
    # In coordinates whitened by the prior its precision is the identity.
    z = np.linalg.solve(factor, (draws - mean).T).T
    gradient = scores @ factor + z
    design = np.column_stack([np.ones(len(z)), z])
    coefficients = np.linalg.lstsq(design, gradient, rcond=None)[0]
    slope = (coefficients[1:] + coefficients[1:].T) / 2
    precision = np.eye(prior.size) - slope
    values, vectors = np.linalg.eigh(precision)
    if not values.min() > 1e-8 * values.max():
        return None
    covariance = vectors / values @ vectors.T
    center = covariance @ coefficients[0]
    moved = factor @ covariance @ factor.T
    return joint_normal(mean + factor @ center, covariance_factor((moved + moved.T) / 2, names))
