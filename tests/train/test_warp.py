import cv2
import numpy as np
import pytest

from dfpipe.train.warp import warped

PICTURE = np.random.default_rng(0).integers(0, 256, (61, 84, 3), np.uint8)


@pytest.mark.parametrize("border", [cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101])
@pytest.mark.parametrize("shape", [(61, 84), (1, 84), (61, 1), (1, 1)])
def test_the_fourth_channel_changes_nothing(border: int, shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(PICTURE[: shape[0], : shape[1]])
    for degrees in (-10.0, 3.3):
        matrix = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), degrees, 1.1)
        expected = cv2.warpAffine(image, matrix, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=border)
        # Here to the bit; another processor may round three and four channels apart.
        np.testing.assert_allclose(warped(image, matrix, border), expected.reshape(image.shape).astype(int), atol=1)
