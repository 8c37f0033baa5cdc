"""The worked examples of the field's textbooks, with the numbers that are printed there.

They are those of Zhang, Lipton, Li and Smola, "Dive into Deep Learning" (chapters 7, 14 and 16), and of Dumoulin and
Visin, "A guide to convolution arithmetic for deep learning", which courses have copied since.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import refused
from numpy.typing import NDArray

import fastconv.functional as F
from fastconv.grad import vjp

IMAGE = np.arange(9.0).reshape(1, 1, 3, 3)
KERNEL = np.arange(4.0).reshape(1, 1, 2, 2)
SIXTEEN = np.arange(1.0, 17).reshape(1, 1, 4, 4)
EDGES = np.ones((1, 1, 6, 8))
EDGES[..., 2:6] = 0
DIFFERENCE = np.array([1.0, -1]).reshape(1, 1, 1, 2)


def convolved(x: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
    """Convolve in full, the kernel flipped: what mathematics calls a convolution."""
    kh, kw = kernel.shape[-2:]
    return F.conv2d(x, np.ascontiguousarray(kernel[..., ::-1, ::-1]), padding=(kh - 1, kw - 1))


def test_cross_correlation() -> None:
    # 0 * 0 + 1 * 1 + 3 * 2 + 4 * 3 = 19
    assert F.conv2d(IMAGE, KERNEL)[0, 0].tolist() == [[19, 25], [37, 43]]


def test_edges_of_a_black_and_white_image() -> None:
    found = F.conv2d(EDGES, DIFFERENCE)[0, 0]
    assert found.tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6
    across = np.ascontiguousarray(EDGES.swapaxes(2, 3))
    assert not F.conv2d(across, DIFFERENCE).any()  # the kernel sees vertical edges alone


def test_a_kernel_is_learnt_from_what_it_did() -> None:
    """The kernel [1, -1] is found by gradient descent on the squares of the differences."""
    target, weight = F.conv2d(EDGES, DIFFERENCE), np.random.default_rng(0).standard_normal((1, 1, 1, 2))
    losses = []
    for _ in range(10):
        y, pullback = vjp(F.conv2d, EDGES, weight)
        loss, back = vjp(F.mse_loss, y, target, reduction="sum")
        losses.append(float(loss))
        weight = weight - 3e-2 * pullback(back()[0])[1]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1
    np.testing.assert_allclose(weight, DIFFERENCE, atol=0.1)


def test_several_input_channels_are_summed() -> None:
    x = np.stack([IMAGE[0, 0], IMAGE[0, 0] + 1])[np.newaxis]
    kernel = np.stack([KERNEL[0, 0], KERNEL[0, 0] + 1])[np.newaxis]
    assert F.conv2d(x, kernel)[0, 0].tolist() == [[56, 72], [104, 120]]


def test_several_output_channels() -> None:
    x = np.stack([IMAGE[0, 0], IMAGE[0, 0] + 1])[np.newaxis]
    kernel = np.stack([KERNEL[0, 0], KERNEL[0, 0] + 1])
    found = F.conv2d(x, np.stack([kernel, kernel + 1, kernel + 2]))[0]
    assert found.tolist() == [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]


def test_a_kernel_of_one_pixel_is_a_matrix_product() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 3, 3)), rng.standard_normal((2, 3, 1, 1))
    expected = (weight[:, :, 0, 0] @ x.reshape(3, 9)).reshape(2, 3, 3)
    np.testing.assert_allclose(F.conv2d(x, weight), expected, rtol=1e-12)


def test_max_pooling() -> None:
    x = np.array([[1.0, 3, 2, 4], [5, 2, 3, 1], [4, 6, 2, 7], [8, 3, 1, 5]])[np.newaxis, np.newaxis]
    assert F.max_pool2d(x, 2)[0, 0].tolist() == [[5, 4], [8, 7]]


def test_pooling_with_a_window_that_overlaps() -> None:
    assert F.max_pool2d(IMAGE, 2, 1)[0, 0].tolist() == [[4, 5], [7, 8]]
    assert F.avg_pool2d(IMAGE, 2, 1)[0, 0].tolist() == [[2, 3], [5, 6]]


def test_maximum_and_mean_of_one_to_sixteen() -> None:
    assert F.max_pool2d(SIXTEEN, 2)[0, 0].tolist() == [[6, 8], [14, 16]]
    # (1 + 2 + 5 + 6) / 4 = 3.5; some texts misprint these means.
    assert F.avg_pool2d(SIXTEEN, 2)[0, 0].tolist() == [[3.5, 5.5], [11.5, 13.5]]


def test_the_gradient_of_pooling_goes_to_the_maxima_or_to_all() -> None:
    g = np.array([[1.0, 2], [3, 4]])[np.newaxis, np.newaxis]
    of_maxima = vjp(F.max_pool2d, SIXTEEN, 2)[1](g)
    assert of_maxima[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0], [0, 3, 0, 4]]
    of_means = vjp(F.avg_pool2d, SIXTEEN, 2)[1](g)
    np.testing.assert_array_equal(of_means, np.kron(g / 4, np.ones((2, 2))))


def test_pooling_with_padding_and_stride() -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert F.max_pool2d(x, 3)[0, 0].tolist() == [[10]]
    assert F.max_pool2d(x, 3, padding=1, stride=2)[0, 0].tolist() == [[5, 7], [13, 15]]
    assert F.max_pool2d(x, (2, 3), stride=(2, 3), padding=(0, 1))[0, 0].tolist() == [[5, 7], [13, 15]]


@pytest.mark.parametrize(
    ("kernel", "attributes", "shape"),
    [
        ((3, 3), {"padding": 1}, (8, 8)),
        ((5, 3), {"padding": (2, 1)}, (8, 8)),
        ((3, 3), {"padding": 1, "stride": 2}, (4, 4)),
        ((3, 5), {"padding": (0, 1), "stride": (3, 4)}, (2, 2)),
    ],
)
def test_shapes_under_padding_and_stride(kernel: tuple[int, ...], attributes: Any, shape: tuple[int, ...]) -> None:
    assert F.conv2d(np.zeros((1, 1, 8, 8)), np.zeros((1, 1, *kernel)), **attributes).shape[2:] == shape


@pytest.mark.parametrize("size", range(3, 9))
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_output_sizes(size: int, kernel: int, stride: int, padding: int) -> None:
    """floor((n + 2 p - k) / s) + 1, and (n - 1) s - 2 p + k for the transposed convolution."""
    x, weight = np.ones((1, 1, size, size)), np.ones((1, 1, kernel, kernel))
    y = F.conv2d(x, weight, stride=stride, padding=padding)
    assert y.shape[-1] == (size + 2 * padding - kernel) // stride + 1
    larger = (size - 1) * stride - 2 * padding + kernel
    if larger < 1:
        with refused(match="leaves nothing"):
            F.conv_transpose2d(x, weight, stride=stride, padding=padding)
        return
    assert F.conv_transpose2d(x, weight, stride=stride, padding=padding).shape[-1] == larger


def test_a_convolution_is_a_product_with_the_im2col_matrix() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 3, 2))
    columns = F.unfold(x, (3, 2), padding=1, stride=2)
    expected = F.conv2d(x, weight, padding=1, stride=2)
    np.testing.assert_allclose(F.matmul(weight.reshape(4, -1), columns).reshape(expected.shape), expected, rtol=1e-10)


def toeplitz(kernel: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the matrix of a cross-correlation of images of this size, flattened."""
    k = len(kernel)
    out = size - k + 1
    matrix = np.zeros((out * out, size * size))
    for row in range(out):
        for column in range(out):
            for y in range(k):
                start = (row + y) * size + column
                matrix[row * out + column, start : start + k] = kernel[y]
    return matrix


def test_a_convolution_is_a_toeplitz_matrix_and_its_transpose_the_transposed_one() -> None:
    kernel = np.array([[1.0, 2], [3, 4]])
    matrix = toeplitz(kernel, 3)
    assert matrix[0].tolist() == [1, 2, 0, 3, 4, 0, 0, 0, 0]
    y = F.conv2d(IMAGE, kernel[np.newaxis, np.newaxis])
    assert y[0, 0].tolist() == [[27, 37], [57, 67]]
    assert (matrix @ IMAGE.ravel()).reshape(2, 2).tolist() == [[27, 37], [57, 67]]
    back = F.conv_transpose2d(y, kernel[np.newaxis, np.newaxis])
    np.testing.assert_array_equal((matrix.T @ y.ravel()).reshape(3, 3), back[0, 0])
    # which is the gradient by the input, too
    np.testing.assert_array_equal(vjp(F.conv2d, IMAGE, kernel[np.newaxis, np.newaxis])[1](y)[0], back)


def test_transposed_convolution() -> None:
    x = np.array([[0.0, 1], [2, 3]])[np.newaxis, np.newaxis]
    assert F.conv_transpose2d(x, x)[0, 0].tolist() == [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    spread = [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]
    assert F.conv_transpose2d(x, x, stride=2)[0, 0].tolist() == spread
    assert F.conv_transpose2d(x, x, padding=1)[0, 0].tolist() == [[4]]


def test_convolution_commutes_and_cross_correlation_does_not() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-5, 6, (1, 1, n, n)).astype(np.float64) for n in (4, 3, 2))
    np.testing.assert_array_equal(convolved(a, b), convolved(b, a))
    np.testing.assert_array_equal(convolved(convolved(a, b), c), convolved(a, convolved(b, c)))
    bigger = np.pad(c, ((0, 0), (0, 0), (0, 1), (0, 1)))
    np.testing.assert_array_equal(convolved(a, b + bigger), convolved(a, b) + convolved(a, bigger))
    one, other = F.conv2d(a, b, padding=2), F.conv2d(b, a, padding=3)
    np.testing.assert_array_equal(one, other[..., ::-1, ::-1])  # turned by half a turn
    assert not np.array_equal(one, other)


def test_convolution_of_text() -> None:
    x, kernel = np.arange(7.0).reshape(1, 1, 7), np.array([1.0, 2]).reshape(1, 1, 2)
    assert F.conv1d(x, kernel)[0, 0].tolist() == [2, 5, 8, 11, 14, 17]
    channels = np.stack([np.arange(n, n + 7.0) for n in range(3)])
    kernels = np.array([[1.0, 2], [3, 4], [-1, -3]])
    assert F.conv1d(channels, kernels[np.newaxis])[0].tolist() == [2, 8, 14, 20, 26, 32]


def test_max_over_time_pooling() -> None:
    features = np.array([[[1.0, 5, 2], [7, 0, 3]]])
    assert F.adaptive_max_pool1d(features, 1)[..., 0].tolist() == [[5, 7]]
    assert F.amax(features, -1).tolist() == [[5, 7]]


def test_softmax_and_cross_entropy_by_hand() -> None:
    """The gradient of the scores is the softmax less what is right."""
    scores, target = np.array([[1.0, 2, 3]]), np.array([2])
    loss, pullback = vjp(F.cross_entropy, scores, target)
    assert round(float(loss), 4) == 0.4076
    expected = F.softmax(scores, 1) - np.array([[0, 0, 1]])
    np.testing.assert_allclose(pullback()[0], expected, rtol=1e-12)
    assert pullback()[0].round(4).tolist() == [[0.09, 0.2447, -0.3348]]


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0], [2], [3], [4]])
    found = F.batch_norm(x, None, None, training=True, eps=0.0)
    np.testing.assert_allclose(found[:, 0], np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-12)
