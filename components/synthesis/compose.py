"""Compose: the three manipulations - splice, copy-move, removal - before anything is re-saved.

An object becomes a layer, is matched to the photo in colour and noise, and is laid over it. Outside
`touched` a composition is the photo itself, bit for bit, and its mask is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from components.synthesis import regions
from components.synthesis.paste import Layer, blend, bounds, lifted, premultiplied

SPLICE, COPY_MOVE, REMOVAL = "splice", "copy-move", "removal"
LOW, HIGH = 0.01, 0.30  # bounds of a manipulated region's share of the photo
_VISIBLE = 9.0  # mean grey levels by which a copied or filled region must differ from the photo
_GREY = 1.5  # mean distance from the grey axis of CIELAB below which a photo has no colour


@dataclass(frozen=True)
class Pose:
    """How an object is laid on: scale, turn in degrees, mirrored or not, centre in pixels."""

    scale: float
    turn: float
    mirrored: bool
    x: float
    y: float


@dataclass(frozen=True)
class Composition:
    """A manipulated photo.

    Attributes:
        photo: uint8 (H, W, 3).
        masks: bool (H, W), one per manipulated region.
        touched: bool (H, W), every pixel that may differ from the photo it was made of.
        change: mean absolute difference inside the masks, in grey levels.
    """

    photo: np.ndarray
    masks: tuple[np.ndarray, ...]
    touched: np.ndarray
    change: float

    @property
    def mask(self) -> np.ndarray:
        """All regions together, bool (H, W)."""
        return np.logical_or.reduce(self.masks)


def usual_share(rng: np.random.Generator) -> float:
    """A region's share of the photo: log-normal, two thirds of them between 3.5 and 12 %."""
    return float(np.clip(rng.lognormal(np.log(0.065), 0.6), 0.015, 0.22))


def splice(
    photo: np.ndarray, objects: list[np.ndarray], rng: np.random.Generator
) -> Composition | None:
    """Lay cut-outs (uint8 (h, w, 4)) over a photo; None where they do not fit side by side."""
    height, width = photo.shape[:2]
    result, layers = photo, list[Layer]()
    taken = np.zeros((height, width), bool)
    for rgba in objects:
        layer = place(rgba, _upright(rgba, height, width, rng), height, width, rng.uniform(0.5, 1))
        if (layer.mask & taken).any() or not LOW <= layer.mask.mean() <= HIGH:
            return None
        taken |= regions.surroundings(layer.mask, 6) | layer.mask
        layer = softened(matched(result, layer, rng.uniform(0.25, 0.6)), rng.uniform(0, 0.7))
        layer = with_noise_of(photo, layer, rng)
        result = blend(result, layer)
        layers.append(layer)
    return _finished(photo, result, layers)


def _upright(rgba: np.ndarray, height: int, width: int, rng: np.random.Generator) -> Pose:
    """A pose for a cut-out: nearly upright, wholly inside, more often low than high."""
    area = max(1, int((rgba[..., 3] > 127).sum()))
    rows, columns = rgba.shape[:2]
    fits = min(0.92 * height / rows, 0.92 * width / columns)
    scale = min(np.sqrt(usual_share(rng) * height * width / area), fits)
    half_w, half_h = scale * columns / 2, scale * rows / 2
    foot = rng.beta(3, 1.3)  # 0 touches the top edge, 1 the bottom edge
    return Pose(
        scale=float(scale),
        turn=float(np.clip(rng.normal(0, 4), -12, 12)),
        mirrored=bool(rng.random() < 0.5),
        x=float(rng.uniform(half_w + 1, width - half_w - 1)),
        y=float(half_h + 1 + foot * (height - 2 * half_h - 2)),
    )


def cut_object(donor: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """An object found in another photo, uint8 (h, w, 4); None where no object is distinct."""
    for _ in range(5):
        mask = regions.find_object(donor, 0.03, 0.25, rng)
        if mask is not None:
            return _cut(donor, mask)
    return None


def _cut(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The region of a photo as a cut-out with a soft edge and a transparent rim, RGBA."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7) * 255
    rgba = np.dstack([photo, np.rint(alpha).astype(np.uint8)])
    rgba = cv2.copyMakeBorder(rgba, 3, 3, 3, 3, cv2.BORDER_REFLECT_101)
    rgba[:3, :, 3] = rgba[-3:, :, 3] = rgba[:, :3, 3] = rgba[:, -3:, 3] = 0
    x0, y0, x1, y1 = bounds(mask)
    return np.ascontiguousarray(rgba[y0 : y1 + 6, x0 : x1 + 6])


def copy_move(photo: np.ndarray, rng: np.random.Generator) -> Composition | None:
    """Copy a region of the photo to another place of it; None where it would not show."""
    height, width = photo.shape[:2]
    source, found = regions.pick(photo, 0.02, 0.20, rng)
    rgba = _cut(photo, source)
    # Free shapes are turned more: they are texture, and nobody knows which way is up.
    turn = rng.normal(0, 5 if found else 25) if rng.random() < 0.6 else 0.0
    rows, columns = rgba.shape[:2]
    scale = min(rng.uniform(0.8, 1.2), 0.9 * height / rows, 0.9 * width / columns)
    for _ in range(8):
        pose = Pose(
            scale=float(scale),
            turn=float(turn),
            mirrored=bool(rng.random() < 0.5),
            x=float(rng.uniform(scale * columns / 2, width - scale * columns / 2)),
            y=float(rng.uniform(scale * rows / 2, height - scale * rows / 2)),
        )
        layer = place(rgba, pose, height, width, rng.uniform(0.5, 1.2))
        mask = layer.mask
        if not LOW <= mask.mean() <= HIGH or (mask & source).sum() > 0.15 * mask.sum():
            continue
        layer = matched(photo, layer, rng.uniform(0, 0.3))
        made = _visible(_finished(photo, blend(photo, layer), [layer]))
        if made is not None:
            return made
    return None


def removal(photo: np.ndarray, rng: np.random.Generator) -> Composition | None:
    """Fill a region of the photo from what surrounds it; None where nothing was there to remove."""
    mask, found = regions.pick(photo, 0.02, 0.16, rng)
    if found:  # an object goes with its edge
        mask = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    share = mask.mean()
    if not LOW <= share <= HIGH:
        return None
    filled = None
    if share > 0.03 or rng.random() < 0.3:
        filled = _cloned(photo, mask, rng)
    if filled is None:
        method = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
        filled = cv2.inpaint(photo, mask.astype(np.uint8), 4, method)
    layer = Layer(filled.astype(np.float32), feathered(mask.astype(np.float32), 0.6))
    layer = with_noise_of(photo, layer, rng)
    return _visible(_finished(photo, blend(photo, layer), [layer]))


def _cloned(photo: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Fill a region from elsewhere in the photo: best-fitting of 40 shifts, Poisson-blended.

    (Perez et al. 2003.) None where no shift keeps clear of the region itself.
    """
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = bounds(mask)
    roomy = (width - (x1 - x0) > 5, height - (y1 - y0) > 5)
    rim = regions.surroundings(mask, 4)
    best: tuple[float, np.ndarray] | None = None
    for _ in range(40):
        dx = int(rng.integers(3 - x0, width - x1 - 2)) if roomy[0] else 0
        dy = int(rng.integers(3 - y0, height - y1 - 2)) if roomy[1] else 0
        moved = np.roll(photo, (-dy, -dx), axis=(0, 1))
        if (np.roll(mask, (-dy, -dx), axis=(0, 1)) & mask).any():
            continue
        fit = _change(photo, moved.astype(np.float32), rim)
        if best is None or fit < best[0]:
            best = fit, moved
    if best is None:
        return None
    return _poisson(photo, best[1], mask)


def _poisson(photo: np.ndarray, patch: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blend a patch into a photo by its gradients; only the pixels of the mask are of use."""
    # OpenCV shrinks the mask by 3 pixels and cannot fill up to the border of a picture.
    around, grow = 8, np.ones((7, 7), np.uint8)
    photo_w, patch_w = (
        cv2.copyMakeBorder(p, around, around, around, around, cv2.BORDER_REFLECT_101)
        for p in (photo, patch)
    )
    mask_w = cv2.dilate(np.pad(mask.astype(np.uint8) * 255, around), grow)
    x0, y0, x1, y1 = bounds(mask_w > 0)
    centre = (x0 + (x1 - x0) // 2, y0 + (y1 - y0) // 2)
    blended = cv2.seamlessClone(patch_w, photo_w, mask_w, centre, cv2.NORMAL_CLONE)
    return blended[around:-around, around:-around]


def _change(photo: np.ndarray, pixels: np.ndarray, where: np.ndarray) -> float:
    """Mean absolute difference of two pictures at some pixels, in grey levels."""
    if not where.any():
        return 0.0
    return float(np.abs(photo[where].astype(np.float32) - pixels[where]).mean())


def _finished(photo: np.ndarray, result: np.ndarray, layers: list[Layer]) -> Composition:
    """The composition of some layers, with exact masks."""
    masks = tuple(layer.mask for layer in layers)
    touched = np.logical_or.reduce([layer.alpha > 0 for layer in layers])
    change = _change(photo, result.astype(np.float32), np.logical_or.reduce(masks))
    return Composition(result, masks, touched, change)


def _visible(composition: Composition) -> Composition | None:
    """The composition if a person could see it, compared side by side."""
    large = LOW <= composition.mask.mean() <= HIGH
    return composition if large and composition.change >= _VISIBLE else None


def place(rgba: np.ndarray, pose: Pose, height: int, width: int, feather: float) -> Layer:
    """Scale, mirror, turn and move an object uint8 (h, w, 4) onto an empty canvas.

    `feather` is the standard deviation of the blur of its edge, in pixels.
    """
    image = premultiplied(rgba)
    if pose.mirrored:
        image = image[:, ::-1]
    if pose.scale < 1:
        image = cv2.resize(image, None, fx=pose.scale, fy=pose.scale, interpolation=cv2.INTER_AREA)
    rest = max(1.0, pose.scale)
    rows, columns = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), pose.turn, rest)
    matrix[:, 2] += (pose.x - (columns - 1) / 2, pose.y - (rows - 1) / 2)
    laid = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    layer = lifted(laid)
    return Layer(layer.pixels, feathered(layer.alpha, feather))


def feathered(alpha: np.ndarray, feather: float) -> np.ndarray:
    """Soften an edge inwards, so that no pixel outside the object's own alpha is touched."""
    soft = cv2.GaussianBlur(alpha, (0, 0), feather) if feather > 0 else alpha
    soft = np.minimum(soft, alpha)
    return np.where(soft < 0.02, 0, soft).astype(np.float32)


def matched(photo: np.ndarray, layer: Layer, strength: float) -> Layer:
    """Move the object's brightness, contrast and colour towards what surrounds it in the photo.

    A strength of 0 leaves it alone, 1 gives it its surroundings' mean and spread (in CIELAB).
    """
    mask = layer.mask
    ring = regions.surroundings(mask, max(4, round(0.06 * max(mask.shape))))
    if not mask.any() or not ring.any():
        return layer
    lab = cv2.cvtColor(layer.pixels / 255, cv2.COLOR_RGB2LAB)
    around = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[ring]
    inside = lab[mask]
    mean, spread = inside.mean(axis=0), inside.std(axis=0) + 1
    gain = np.clip((around.std(axis=0) + 1) / spread, 0.7, 1.2) ** strength
    # Hue follows the light less than brightness does: a red bus stays red in a green meadow.
    shift = strength * np.array([0.7, 0.35, 0.35], np.float32) * (around.mean(axis=0) - mean)
    lab = (lab - mean) * gain.astype(np.float32) + mean + shift
    lab[..., 0] = np.clip(lab[..., 0], 0, 100)
    if np.abs(around[:, 1:]).mean() < _GREY:  # nobody pastes colour into a black-and-white photo
        lab[..., 1:] = around[:, 1:].mean(axis=0)
    pixels = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255
    return Layer(np.clip(pixels, 0, 255), layer.alpha)


def noise_level(photo: np.ndarray, where: np.ndarray | None = None) -> float:
    """Standard deviation of the noise (Immerkaer 1996, from the flattest fifth) of a photo.

    `where` selects its pixels, bool (H, W); None means all of them.
    """
    grey = cv2.cvtColor(photo.astype(np.float32), cv2.COLOR_RGB2GRAY)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel))
    chosen = response if where is None else response[where]
    # A low quantile, because texture answers the same filter: grass is no noise.
    return float(np.quantile(chosen, 0.2)) / (6 * 0.2533) if chosen.size else 0.0


def with_noise_of(photo: np.ndarray, layer: Layer, rng: np.random.Generator) -> Layer:
    """Add the noise that the photo has and the object lacks."""
    missing = noise_level(photo) ** 2 - noise_level(layer.pixels, layer.mask) ** 2
    if missing <= 0:
        return layer
    noise = rng.normal(0, np.sqrt(missing), layer.pixels.shape).astype(np.float32)
    return Layer(np.clip(layer.pixels + noise, 0, 255), layer.alpha)


def softened(layer: Layer, sigma: float) -> Layer:
    """Blur the object's pixels slightly, as a photo's optics would have."""
    if sigma < 0.2:
        return layer
    # Only the object's own colours may mix, or its edge would turn towards black.
    alpha = layer.alpha[..., None]
    weight = cv2.GaussianBlur(layer.alpha, (0, 0), sigma)[..., None]
    blurred = cv2.GaussianBlur(layer.pixels * alpha, (0, 0), sigma) / np.maximum(weight, 1e-3)
    return Layer(np.clip(blurred, 0, 255).astype(np.float32), layer.alpha)
