"""What is remembered of a photo to compare it with others: keypoints, a thumbnail, and how it was taken.

A decoded photo goes in; a few kilobytes come out, from which the audit finds near duplicates, shortcuts and
outliers without the pixels. Letters: K keypoints, at most `KEYPOINTS_MAX`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

KEYPOINTS_MAX = 96
"""Keypoints kept of a photo, the strongest. Of 60 photos of TrashNet, copies that keep 60 % of the area share 45 in the
median, and copies turned by ten degrees into black corners, which are strong keypoints themselves, at least 17."""
SKETCH_SHORT_SIDE_PX = 176
"""Keypoints are looked for at this short side; smaller photos stay as they are. Twice as fast as at 240 px, and made-up
copies are found as often."""
THUMBNAIL_WIDTH_PX, THUMBNAIL_HEIGHT_PX = 32, 24
LUMA_WIDTH_PX, LUMA_HEIGHT_PX = 96, 72
DESCRIPTOR_LENGTH = 128

_CONTRAST_THRESHOLD = 0.01
"""A quarter of what Lowe proposes: white paper on a white board still has points at this contrast. Source: Lowe,
"Distinctive image features from scale-invariant keypoints", 2004, section 4."""
_CORNER_SHARE = 0.125
"""Side of the four corners whose colours are kept, of the photo's sides."""
_DARK, _BRIGHT = 8, 247
"""Luma at or beyond which a pixel counts as black or white."""


@dataclass(frozen=True)
class Sketch:
    """What the audit keeps of one photo.

    Attributes:
        points: Keypoint positions (K, 2), float32, x and y in pixels at the sketch's size.
        descriptors: SIFT descriptors (K, 128), uint8.
        size: Width and height at the sketch's size, in pixels.
        luma: The photo in grey, stretched to (72, 96), uint8.
        thumbnail: The photo stretched to (24, 32, 3), uint8, RGB.
        corners: Mean colour of the four corners (4, 3), uint8, RGB: top left, top right, bottom left, bottom right.
        sharpness: Variance of the Laplacian of luma in 0..255; below some ten a photo is blurred.
        contrast: Standard deviation of luma in 0..255.
        dark_share: Share of pixels that are black, 0 to 1.
        bright_share: Share of pixels that are white, 0 to 1.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]
    luma: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]
    corners: NDArray[np.uint8]
    sharpness: float
    contrast: float
    dark_share: float
    bright_share: float


def sketch_photo(photo: NDArray[np.uint8]) -> Sketch:
    """Look at a photo (height, width, 3), uint8, RGB, of any size, once for everything the audit compares."""
    image = Image.fromarray(photo)
    scale = min(1.0, SKETCH_SHORT_SIDE_PX / min(image.size))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    luma = np.asarray(image.convert("L"))
    points, descriptors = _keypoints(luma)
    small_luma = Image.fromarray(luma).resize((LUMA_WIDTH_PX, LUMA_HEIGHT_PX), Image.Resampling.BOX)
    thumbnail = image.resize((THUMBNAIL_WIDTH_PX, THUMBNAIL_HEIGHT_PX), Image.Resampling.BOX)
    return Sketch(
        points=points,
        descriptors=descriptors,
        size=image.size,
        luma=np.asarray(small_luma),
        thumbnail=np.asarray(thumbnail),
        corners=_corner_colours(np.asarray(image)),
        sharpness=float(cv2.Laplacian(luma, cv2.CV_64F).var()),
        contrast=float(luma.std()),
        dark_share=float((luma <= _DARK).mean()),
        bright_share=float((luma >= _BRIGHT).mean()),
    )


def mirrored(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the descriptors (K, 128) that the same points have in the mirrored photo.

    A descriptor holds 4 x 4 places of 8 directions, relative to the point's own direction; a mirror turns the
    places over across that direction, and every direction to its opposite turn.
    """
    cells = descriptors.reshape(-1, 4, 4, 8)
    return np.ascontiguousarray(cells[:, ::-1, :, [0, 7, 6, 5, 4, 3, 2, 1]]).reshape(-1, DESCRIPTOR_LENGTH)


def _keypoints(luma: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    detector = cv2.SIFT.create(nfeatures=KEYPOINTS_MAX, contrastThreshold=_CONTRAST_THRESHOLD)
    points, descriptors = detector.detectAndCompute(luma, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, DESCRIPTOR_LENGTH), np.uint8)
    # A point with two directions comes twice, so there may be more than were asked for.
    strongest = sorted(range(len(points)), key=lambda i: (-points[i].response, points[i].pt))[:KEYPOINTS_MAX]
    positions = np.array([points[i].pt for i in strongest], np.float32)
    return positions, np.ascontiguousarray(descriptors[strongest].astype(np.uint8))


def _corner_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (max(1, round(side * _CORNER_SHARE)) for side in pixels.shape[:2])
    rows, columns = (slice(None, height), slice(-height, None)), (slice(None, width), slice(-width, None))
    means = [pixels[row, column].reshape(-1, 3).mean(axis=0) for row in rows for column in columns]
    colours: NDArray[np.uint8] = np.rint(np.array(means)).astype(np.uint8)
    return colours
