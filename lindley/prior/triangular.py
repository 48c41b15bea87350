"""Triangular maps from whitened points to coordinates: the joint normal and its generalisations.

With z ~ Normal(0, I) and the coordinates taken in an order of their own, coordinate k is

    u_k = loc_k + linear_k . z_<k + z_<k' quadratic_k z_<k
          + exp(log_width_k + widen_k . z_<k) * sinh((asinh(z_k) + skew_k) / tail_k)

(Knothe-Rosenblatt rearrangement; Marzouk et al. 2016, Handbook of Uncertainty Quantification, ch. 23; the
last factor is Jones & Pewsey 2009, Biometrika 96:761). With quadratic, widen and skew zero and tail one it is
exactly the joint normal with its Cholesky factor. These four represent what a normal cannot: curved ridges,
funnels (a width that depends on other parameters), skewness and tails.

Last, each coordinate's margin may be warped separately, which takes four numbers a coordinate in any
dimension:

    x_k = center_k + spread_k * sinh((asinh(u_k) + skew_k) / tail_k)

The values (0, 1, 0, 1) leave a margin as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

#: Names of a map's arrays, in the order in which they are hashed, stored and passed to compiled functions.
ARRAYS = ("order", "loc", "linear", "log_width", "quadratic", "widen", "skew", "tail", "margins")
#: Rows of the array `margins`, and their values that leave a margin as it is.
MARGINS = {"center": 0.0, "spread": 1.0, "skew": 0.0, "tail": 1.0}
#: Nodes of the quadrature that gives means.
_NODES = 60


#: Points so far out that a number overflows get coordinates and densities that are not finite, as any point
#: without density does; warnings would reach users whose chains did not mix.
_QUIET = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@dataclass(frozen=True)
class TriangularMap:
    """A triangular map; arrays in map order, see the module.

    Parameters
    ----------
    order
        Array [step]: the coordinate of each step of the map.
    loc, log_width, skew, tail
        Arrays [step].
    linear
        Array [step, step], strictly lower triangular.
    quadratic
        Array [step, earlier step, earlier step], symmetric in the last two; these have length 0 in a map
        that is not triangular.
    widen
        Array [step, earlier step].
    margins
        Array [`MARGINS`, coordinate]: the warp of each coordinate's margin; none by default.
    """

    order: np.ndarray
    loc: np.ndarray
    linear: np.ndarray
    log_width: np.ndarray
    quadratic: np.ndarray
    widen: np.ndarray
    skew: np.ndarray
    tail: np.ndarray
    margins: np.ndarray = field(default_factory=lambda: np.zeros((4, 0)))

    def __post_init__(self) -> None:
        """Fill in margins without warp."""
        if self.margins.shape[1] != len(self.loc):
            object.__setattr__(self, "margins", plain_margins(len(self.loc)))

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.loc)

    @property
    def triangular(self) -> bool:
        """Whether a step is nonlinear: ridges, funnels, skewness given the coordinates before."""
        return bool(self.quadratic.size or np.any(self.skew) or np.any(self.tail != 1))

    @property
    def warped(self) -> bool:
        """Whether margins are warped."""
        return not np.array_equal(self.margins, plain_margins(self.size))

    @property
    def normal(self) -> bool:
        """Whether the map is exactly a joint normal."""
        return not (self.triangular or self.warped)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the arrays in the order of `ARRAYS`."""
        return tuple(getattr(self, name) for name in ARRAYS)

    @_QUIET
    def forward(self, z: np.ndarray) -> np.ndarray:
        """Map whitened points z [..., step] to coordinates u [..., coordinate]."""
        middle, width = self._given(z)
        u = np.empty_like(middle)
        u[..., self.order] = middle + width * sinh_arcsinh(z, self.skew, self.tail)
        if not self.warped:
            return u
        center, spread, skew, tail = self.margins
        return center + spread * sinh_arcsinh(u, skew, tail)

    @_QUIET
    def inverse(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map coordinates u [..., coordinate] to z [..., step] and log|det dz/du| [...]."""
        log_slope = np.zeros(u.shape[:-1])
        if self.warped:
            center, spread, skew, tail = self.margins
            u, slopes = _undone((u - center) / spread, skew, tail)
            log_slope = (slopes - np.log(spread)).sum(axis=-1)
        v = u[..., self.order]
        z = np.zeros_like(v)
        for k in range(self.size):
            middle, width = self._given(z, k)
            z[..., k], slopes = _undone((v[..., k] - middle) / width, self.skew[k], self.tail[k])
            log_slope = log_slope + (slopes - np.log(width))
        return z, log_slope

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        """Return du/dz [..., coordinate, step] at points z [..., step]."""
        slope = np.empty((*z.shape, self.size))
        slope[..., self.order, :] = self._triangle(z)
        if self.warped:
            slope *= self._margin_slope(z)[0][..., None]
        return slope

    def gradient_in_u(self, z: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Turn the gradient [..., step] of a log density of z into the score of the same distribution in u.

        The gradient of the log Jacobian is subtracted; returns an array [..., coordinate].
        """
        inner, root = (np.arcsinh(z) + self.skew) / self.tail, np.sqrt(1 + z**2)
        own = np.tanh(inner) / (self.tail * root) - z / root**2
        if self.quadratic.size:
            own = own + self.widen.sum(axis=0)
        score = np.empty_like(gradient)
        score[..., self.order] = self._undo_triangle(z, gradient - own)
        if not self.warped:
            return score
        slope, curvature = self._margin_slope(z)
        return (score - curvature) / slope

    def _undo_triangle(self, z: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Solve for the scores [..., step] whose product with the derivative of the steps is `slopes`."""
        below, diagonal = self._slopes(z)
        found = slopes / diagonal
        # By substitution, the last step first: all points at once take a hundredth of a general solution.
        for k in range(self.size - 2, -1, -1):
            explained = found[..., None, k + 1 :] @ below[..., k + 1 :, k, None]
            found[..., k] -= explained[..., 0, 0] / diagonal[..., k]
        return found

    def _triangle(self, z: np.ndarray) -> np.ndarray:
        """Return the derivative [..., step, step] of the steps, margins left out."""
        below, diagonal = self._slopes(z)
        triangle = np.broadcast_to(below, (*z.shape, self.size)).copy()
        index = np.arange(self.size)
        triangle[..., index, index] = diagonal
        return triangle

    def _slopes(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivative of the steps: below the diagonal [..., step, step], and on it [..., step].

        Without quadratic terms the part below is the same at every point, and has no leading dims.
        """
        _, width = self._given(z)
        inner = (np.arcsinh(z) + self.skew) / self.tail
        below = self.linear
        if self.quadratic.size:
            below = below + 2 * np.einsum("kij,...j->...ki", self.quadratic, z)
            below = below + self.widen * (width * np.sinh(inner))[..., None]
        return below, width * np.cosh(inner) / (self.tail * np.sqrt(1 + z**2))

    def _margin_slope(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the slope [..., coordinate] of the margins' warp and the derivative of its logarithm."""
        rest = replace(self, margins=plain_margins(self.size)).forward(z)
        _, spread, skew, tail = self.margins
        inner, root = (np.arcsinh(rest) + skew) / tail, np.sqrt(1 + rest**2)
        slope = spread * np.cosh(inner) / (tail * root)
        return slope, np.tanh(inner) / (tail * root) - rest / root**2

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Return the log density [...] of coordinates u [..., coordinate]."""
        z, log_slope = self.inverse(u)
        return -0.5 * (z**2).sum(axis=-1) - 0.5 * self.size * np.log(2 * np.pi) + log_slope

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw `size` points; returns an array [draw, coordinate]."""
        return self.forward(rng.standard_normal((size, self.size)))

    def permuted(self, index: np.ndarray) -> TriangularMap:
        """Return the same distribution of ``u[index]``."""
        where = np.empty(self.size, dtype=int)
        where[index] = np.arange(self.size)
        return replace(self, order=where[self.order], margins=self.margins[:, index])

    def stretched(self, factors: np.ndarray) -> TriangularMap:
        """Return the map with each coordinate stretched by a factor [coordinate] about its mean.

        Covariances become D Sigma D with D the diagonal of the factors; correlations and shapes stay.
        """
        if self.warped:
            margins, mean = self.margins.copy(), self.mean()
            margins[0] = mean + factors * (margins[0] - mean)
            margins[1] = factors * margins[1]
            return replace(self, margins=margins)
        steps = factors[self.order]
        middle = self.mean()[self.order]
        return replace(
            self,
            loc=middle + steps * (self.loc - middle),
            linear=steps[:, None] * self.linear,
            quadratic=steps[:, None, None] * self.quadratic,
            log_width=self.log_width + np.log(steps),
        )

    def mean(self) -> np.ndarray:
        """Return the mean [coordinate], by quadrature where margins or innovations are skewed.

        Only maps that are not triangular have warped margins (see `lindley.prior.matching`).
        """
        nodes, share = np.polynomial.hermite_e.hermegauss(_NODES)
        share = share / share.sum()
        middle = self.loc.copy()
        if self.triangular:
            innovation = sinh_arcsinh(nodes, self.skew[:, None], self.tail[:, None]) @ share
            width = np.exp(self.log_width + 0.5 * (self.widen**2).sum(axis=1))
            middle += np.einsum("kii->k", self.quadratic) + width * innovation
        found = np.empty(self.size)
        found[self.order] = middle
        if not self.warped:
            return found
        spread = np.empty(self.size)
        spread[self.order] = np.sqrt((self.linear**2).sum(axis=1) + np.exp(2 * self.log_width))
        y = found[:, None] + spread[:, None] * nodes
        center, scale, skew, tail = self.margins[:, :, None]
        mean: np.ndarray = (center + scale * sinh_arcsinh(y, skew, tail)) @ share
        return mean

    def _given(self, z: np.ndarray, step: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return middle and width of all steps, or of one, given the z before them."""
        pick = slice(None) if step is None else step
        leading = z[..., : self.quadratic.shape[1]]
        middle = self.loc[pick] + z @ self.linear[pick].T
        log_width = self.log_width[pick] + np.zeros_like(middle)
        if self.quadratic.size:
            path = "...i,kij,...j->...k" if step is None else "...i,ij,...j->..."
            middle = middle + np.einsum(path, leading, self.quadratic[pick], leading)
            log_width = log_width + leading @ self.widen[pick].T
        return middle, np.exp(log_width)


def plain_margins(size: int) -> np.ndarray:
    """Return margins [`MARGINS`, coordinate] without warp."""
    return np.repeat(np.array(list(MARGINS.values()))[:, None], size, axis=1)


def joint_normal(mean: np.ndarray, factor: np.ndarray) -> TriangularMap:
    """Return the joint normal with a mean [coordinate] and a lower Cholesky factor of its covariance."""
    size = len(mean)
    return TriangularMap(
        order=np.arange(size),
        loc=np.array(mean, dtype=float),
        linear=np.tril(factor, -1),
        log_width=np.log(np.diag(factor)),
        quadratic=np.zeros((size, 0, 0)),
        widen=np.zeros((size, 0)),
        skew=np.zeros(size),
        tail=np.ones(size),
    )


def sinh_arcsinh(x: np.ndarray, skew: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Return x with the skewness and tails of Jones & Pewsey's transformation, element by element."""
    return np.asarray(np.sinh((np.arcsinh(x) + skew) / tail))


def _undone(y: np.ndarray, skew: np.ndarray, tail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the x that `sinh_arcsinh` takes to y, and log dx/dy."""
    inner = tail * np.arcsinh(y) - skew
    return np.sinh(inner), np.log(tail) + log_cosh(inner) - 0.5 * np.log1p(y**2)


def log_cosh(x: np.ndarray) -> np.ndarray:
    """Return log cosh x without overflow."""
    size = np.abs(x)
    return size + np.log1p(np.exp(-2 * size)) - np.log(2)
