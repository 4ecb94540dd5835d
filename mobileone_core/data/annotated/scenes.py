"""Composes scenes: items of a data set, scaled, overlapping and among clutter, with exact boxes, classes and masks.

The objects are real images, the scenes are not: they test what a detector or a segmenter learns, within minutes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mobileone_core.data.memory import ImageTensor

AT_ONCE = 4
OBJECTS = 4  # at most, in a scene
CLUTTER = 6  # fragments of items in a scene, which belong to no class
SIZES = (1 / 5, 1 / 2)  # of an item with its margin, as fractions of the scene's side
CANDIDATES = 5  # positions that are tried for an object
OVERLAP = 0.25  # of the smaller of two items, at most
SOLID = 0.3  # opacity from which a pixel belongs to an object
VISIBLE = 0.5  # share of an object's pixels below which it is not drawn
STEPS = 64  # of an interpolation weight: products of integers are exact, so that batches cannot matter

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


class Scenes(NamedTuple):
    """Composed scenes: images, uint8 (B, 1, S, S), and what is in them.

    boxes, float32 (B, OBJECTS, 4), are the extents (left, top, right, bottom) of an object's visible pixels. labels,
    int64 (B, OBJECTS), count from 1; 0 says that there is no such object. masks, uint8 (B, S, S), have the label of the
    object that is seen at a pixel, 0 for background.
    """

    images: NDArray[np.uint8]
    boxes: Floats
    labels: Numbers
    masks: NDArray[np.uint8]


class SceneComposer:
    """Composes scenes of image_size pixels from the items of one split, grey on black.

    A scene is a function of the seed and its number, to the bit, whatever scenes are composed with it.
    """

    def __init__(self, items: ImageTensor, image_size: int, seed: int) -> None:
        self.items = items.images[:, 0].numpy().astype(np.float32)
        self.labels = items.labels.numpy() + 1
        self.size, self.seed = image_size, seed
        self.least, self.most = (max(2, round(share * image_size)) for share in SIZES)
        sizes = range(self.least, self.most + 1)
        self.weights = np.stack([_weights(size, self.items.shape[1], self.most) for size in sizes])
        self.texture = uniform(0, np.arange(2 * image_size), 2 * image_size).astype(np.float32) - np.float32(0.5)

    def __call__(self, numbers: Numbers) -> Scenes:
        """Compose the scenes of numbers (B,), a few at a time, which stay in the processor's cache."""
        parts = [self._compose(numbers[start : start + AT_ONCE]) for start in range(0, len(numbers), AT_ONCE)]
        return Scenes(*map(np.concatenate, zip(*parts, strict=True)))

    def _compose(self, numbers: Numbers) -> Scenes:
        draws = uniform(self.seed, numbers, (OBJECTS + CLUTTER) * (4 + 2 * CANDIDATES) + 8)
        scene, slots = draws[:, :8], draws[:, 8:].reshape(len(numbers), OBJECTS + CLUTTER, -1)
        sizes = (self.least * (self.most / self.least) ** slots[..., 0]).round().astype(np.int64)
        chosen = (slots[..., 1] * len(self.items)).astype(np.int64)
        free = (self.size + 1 - sizes)[..., None, None]
        candidates = (slots[..., 4:].reshape(*sizes.shape, CANDIDATES, 2) * free).astype(np.int64)
        corners, present = _placed(candidates, sizes, 1 + (scene[:, 0] * OBJECTS).astype(np.int64))
        opacity = self._opacity(chosen, sizes, corners, slots[..., 2])
        visible = _visible(opacity[:, :OBJECTS] >= SOLID, present)
        shown = np.concatenate([np.ones((len(numbers), CLUTTER), bool), visible.any((2, 3))], axis=1)
        order = [*range(OBJECTS, OBJECTS + CLUTTER), *range(OBJECTS)]  # clutter lies below
        levels = np.where(np.arange(len(order)) < OBJECTS, 0.55 + 0.45 * slots[..., 3], 0.2 + 0.3 * slots[..., 3])
        images = self._background(scene)
        for slot, is_shown in zip(order, shown.T, strict=True):
            level = levels[:, slot, None, None].astype(np.float32)
            images += opacity[:, slot] * is_shown[:, None, None] * (level - images)
        labels = np.where(visible.any((2, 3)), self.labels[chosen[:, :OBJECTS]], 0)
        masks = (visible * labels[..., None, None].astype(np.uint8)).sum(1, dtype=np.uint8)
        return Scenes((images * 255).round().astype(np.uint8)[:, None], _extents(visible), labels, masks)

    def _opacity(self, chosen: Numbers, sizes: Numbers, corners: Numbers, quarter: NDArray[np.float64]) -> Floats:
        """Draw every item into a scene of its own, 0 to 1, (B, slots, S, S); of clutter one quarter of an item."""
        items, half = self.items[chosen], self.items.shape[-1] // 2
        is_right = np.arange(2 * half) >= half
        row, column = (is_right == (quarter[..., None] * parts % 2 >= 1) for parts in (2, 4))  # (B, slots, pixels)
        items[:, OBJECTS:] *= (row[..., None] & column[:, :, None])[:, OBJECTS:]
        pixels = np.arange(self.size)
        offsets = np.clip(pixels - corners[..., None], -1, self.most)  # (B, slots, 2, S): the last row is empty
        weights = self.weights[(sizes - self.least)[..., None, None], offsets]
        drawn = weights[:, :, 0] @ items @ weights[:, :, 1].swapaxes(-1, -2)
        opacity: Floats = np.minimum(drawn * np.float32(1 / (255 * STEPS**2)), 1)
        return opacity

    def _background(self, scene: NDArray[np.float64]) -> Floats:
        """A grey level with a gradient and noise, (B, S, S)."""
        line = np.linspace(-1, 1, self.size, dtype=np.float32)
        level, down, right, noise = (scene[:, k, None, None].astype(np.float32) for k in range(1, 5))
        slope = (down - np.float32(0.5)) * line[:, None] + (right - np.float32(0.5)) * line
        top, left = (scene[:, 5:7] * self.size).astype(np.int64).T
        rows, columns = (start[:, None] + np.arange(self.size) for start in (top, left))
        texture = self.texture[rows[:, :, None], columns[:, None, :]]
        background: Floats = np.float32(0.12) + level / 8 + slope / 8 + noise / 6 * texture
        return background


def uniform(seed: int, numbers: Numbers, count: int) -> NDArray[np.float64]:
    """Draw count numbers in [0, 1) for each of numbers, float64 (len(numbers), count): SplitMix64 as a counter.

    Each is a function of (seed, number, position), so that no generator has to be made per image.
    """
    position = numbers.astype(np.uint64)[:, None] * np.uint64(count) + np.arange(1, count + 1, dtype=np.uint64)
    state: NDArray[Any] = position * np.uint64(0x9E3779B97F4A7C15) + np.full(1, seed % 2**64, np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(((state ^ (state >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53, np.float64)


def _weights(size: int, pixels: int, most: int) -> Floats:
    """Whole weights of an item's pixels in each of size pixels, bilinear with antialiasing, (most + 2, pixels).

    The rows after size are 0.
    """
    scale = pixels / size
    centres = (np.arange(size)[:, None] + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs(np.clip(centres, 0, pixels - 1) - np.arange(pixels)) / max(1, scale), 0)
    rounded = np.zeros((most + 2, pixels), np.float32)
    rounded[:size] = (weights / weights.sum(1, keepdims=True) * STEPS).round()
    return rounded


def _placed(corners: Numbers, sizes: Numbers, wanted: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Choose each slot's first position that leaves the objects before it visible; objects without one are left out.

    corners is (B, slots, CANDIDATES, 2). Returns corners (B, slots, 2), and whether objects are present (B, OBJECTS).
    """
    chosen = corners[:, :, 0].copy()
    present = np.arange(OBJECTS) < wanted[:, None]
    for slot in range(1, OBJECTS):
        before, size = sizes[:, None, :slot, None], sizes[:, slot, None, None, None]
        first, others = corners[:, slot, :, None], chosen[:, None, :slot]
        shared = np.minimum(first + size, others + before) - np.maximum(first, others)  # (B, CANDIDATES, slot, 2)
        overlap = np.maximum(shared, 0).prod(-1) / np.minimum(size, before)[..., 0] ** 2
        fits = ((overlap <= OVERLAP) | ~present[:, None, :slot]).all(-1)
        best = fits.argmax(1)
        chosen[:, slot] = np.take_along_axis(corners[:, slot], best[:, None, None], 1)[:, 0]
        present[:, slot] &= fits.any(1)
    return chosen, present


def _visible(solid: NDArray[np.bool_], present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels where each object is seen (B, OBJECTS, S, S); later objects lie above, those hidden are left out."""
    visible = solid & present[..., None, None]
    covered = np.zeros_like(solid[:, 0])
    for slot in reversed(range(OBJECTS)):
        whole = visible[:, slot].sum((1, 2))
        visible[:, slot] &= ~covered
        shown = visible[:, slot].sum((1, 2)) >= VISIBLE * whole
        visible[:, slot] &= shown[:, None, None]
        covered |= visible[:, slot]
    return visible


def _extents(visible: NDArray[np.bool_]) -> Floats:
    """The boxes (left, top, right, bottom) around pixels (B, OBJECTS, S, S), float32 (B, OBJECTS, 4)."""
    size = visible.shape[-1]
    axes = [visible.any(axis, keepdims=True).reshape(*visible.shape[:2], size) for axis in (2, 3)]  # columns, rows
    ends = [axis.argmax(2) for axis in axes] + [size - axis[..., ::-1].argmax(2) for axis in axes]
    return np.stack(ends, axis=-1).astype(np.float32) * np.asarray(visible.any((2, 3)))[..., None]
