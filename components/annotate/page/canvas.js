"use strict";
// A photo with boxes: zoom, pan, draw, move, resize, undo. Written here because the drawing
// libraries that were looked at (Annotorious with OpenSeadragon) draw and edit by pointer only.
// Boxes are [x0, y0, x1, y1] in whole pixels of the photo, half-open, and never changed in place.

const GRIP = 8; // screen pixels round an edge that count as on it
const LEAST = 3; // screen pixels that a drag must span to be a box
const MOST_ZOOM = 32;

class Canvas {
  constructor(svg, changed) {
    this.svg = svg;
    this.changed = changed; // called when boxes or the selection have changed
    this.view = svg.appendChild(make("g"));
    this.photo = this.view.appendChild(make("image", { preserveAspectRatio: "none" }));
    this.masks = this.view.appendChild(make("g"));
    this.front = svg.appendChild(make("g"));
    this.pointers = new Map();
    this.space = false;
    this.clear();
    svg.addEventListener("pointerdown", event => this.down(event));
    svg.addEventListener("pointermove", event => this.move(event));
    svg.addEventListener("pointerup", event => this.up(event));
    svg.addEventListener("pointercancel", event => this.up(event, true));
    svg.addEventListener("wheel", event => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.fitted ? this.fit() : this.render()).observe(svg);
  }

  clear() {
    Object.assign(this, { width: 0, height: 0, boxes: [], selected: -1, past: [], future: [], shown: new Map(),
      scale: 1, x: 0, y: 0, fitted: true, drag: null });
    this.photo.removeAttribute("href");
    this.render();
  }

  load(url, width, height, boxes) {
    this.clear();
    Object.assign(this, { width, height, boxes });
    for (const [name, value] of Object.entries({ href: url, width, height })) this.photo.setAttribute(name, value);
    this.fit();
  }

  // --- what is seen -------------------------------------------------------------------------

  size() {
    const { width, height } = this.svg.getBoundingClientRect();
    return [width, height];
  }

  fit() {
    const [width, height] = this.size();
    if (!this.width || !width) return;
    this.scale = Math.min(width / this.width, height / this.height, MOST_ZOOM);
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.render();
  }

  // The point of the screen stays where it is.
  zoom(factor, x, y) {
    if (x === undefined) [x, y] = this.size().map(side => side / 2);
    const [width, height] = this.size(), least = Math.min(1, width / this.width / 2, height / this.height / 2);
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.scale * factor)), real = scale / this.scale;
    this.pan((x - this.x) * (1 - real), (y - this.y) * (1 - real), scale);
  }

  pan(dx, dy, scale = this.scale) {
    const [width, height] = this.size(), edge = 40; // screen pixels of the photo that stay in sight
    const clamp = (value, side, length) => Math.min(side - edge, Math.max(edge - length, value));
    this.scale = scale;
    this.x = clamp(this.x + dx, width, this.width * scale);
    this.y = clamp(this.y + dy, height, this.height * scale);
    this.fitted = false;
    this.render();
  }

  render() {
    const { view, front, scale } = this;
    view.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${scale})`);
    this.photo.setAttribute("class", scale >= 3 ? "pixels" : "");
    const masks = this.boxes.map(box => this.shown.get(String(box))).filter(Boolean);
    this.masks.replaceChildren(...masks.map(({ url, place: [x0, y0, x1, y1] }) =>
      make("image", { href: url, x: x0, y: y0, width: x1 - x0, height: y1 - y0, preserveAspectRatio: "none" })));
    const rects = this.boxes.map((box, n) => [this.onScreen(box), n === this.selected ? "box selected" : "box"]);
    if (this.drag?.draws) rects.push([this.onScreen(this.drag.box), "box selected"]);
    front.replaceChildren(...rects.flatMap(([at, kind]) => [make("rect", { ...at, class: "rim" }), make("rect", { ...at, class: kind })]));
    const box = this.boxes[this.selected];
    if (box) front.append(...corners(this.onScreen(box)).map(([x, y]) => make("rect", { x: x - 5, y: y - 5, width: 10, height: 10, class: "handle" })));
  }

  onScreen([x0, y0, x1, y1]) {
    const { scale, x, y } = this;
    return { x: x0 * scale + x, y: y0 * scale + y, width: (x1 - x0) * scale, height: (y1 - y0) * scale };
  }

  toPhoto(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  show(box, mask) {
    this.shown.set(String(box), mask);
    this.render();
  }

  // --- boxes --------------------------------------------------------------------------------

  inside(box) {
    const [x0, x1] = span(box[0], box[2], this.width), [y0, y1] = span(box[1], box[3], this.height);
    return [x0, y0, x1, y1];
  }

  set(boxes, selected) {
    if (JSON.stringify(boxes) !== JSON.stringify(this.boxes)) {
      this.past.push(this.boxes);
      this.future = [];
    }
    this.boxes = boxes;
    this.select(selected);
  }

  select(n) {
    this.selected = n < this.boxes.length ? n : -1;
    this.render();
    this.changed();
  }

  replace(n, box) {
    this.set(this.boxes.map((old, other) => other === n ? this.inside(box) : old), n);
  }

  add(box) {
    if (box === undefined) { // a third of what is seen
      const [width, height] = this.size();
      const [x0, y0] = this.toPhoto(width / 3, height / 3), [x1, y1] = this.toPhoto(width * 2 / 3, height * 2 / 3);
      box = [x0, y0, x1, y1];
    }
    this.set([...this.boxes, this.inside(box)], this.boxes.length);
  }

  remove() {
    if (this.selected >= 0) this.set(this.boxes.filter((_, n) => n !== this.selected), -1);
  }

  // Arrow keys: move the selected box or its lower right corner, by pixels of the photo.
  nudge(dx, dy, corner) {
    const box = this.boxes[this.selected], length = box[2] - box[0], height = box[3] - box[1];
    if (corner) return this.replace(this.selected, [box[0], box[1], Math.max(box[0] + 1, box[2] + dx), Math.max(box[1] + 1, box[3] + dy)]);
    const x = Math.min(this.width - length, Math.max(0, box[0] + dx)), y = Math.min(this.height - height, Math.max(0, box[1] + dy));
    this.replace(this.selected, [x, y, x + length, y + height]);
  }

  undo() { this.step(this.past, this.future); }
  redo() { this.step(this.future, this.past); }
  step(from, to) {
    if (!from.length) return;
    to.push(this.boxes);
    this.boxes = from.pop();
    this.select(-1);
  }

  // --- pointers -----------------------------------------------------------------------------

  at(event) {
    const { left, top } = this.svg.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  down(event) {
    if (!this.width || event.button === 2) return;
    event.preventDefault();
    this.svg.focus();
    this.svg.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) this.drag = { pans: true };
    else if (this.pointers.size === 1) this.drag = this.begin(event, at);
  }

  // What a drag from here does.
  begin(event, at) {
    if (this.space || event.button === 1) return { pans: true };
    const n = event.shiftKey ? -1 : this.hit(at);
    if (n < 0) return { draws: true, from: at, box: [...this.toPhoto(...at), ...this.toPhoto(...at)] };
    this.select(n);
    return { n, from: at, before: this.boxes, box: this.boxes[n], sides: this.sides(at, this.boxes[n]) };
  }

  // The box under a point, the selected one first, then the smallest.
  hit(at) {
    const found = this.boxes.map((box, n) => [n, box]).filter(([, box]) => this.sides(at, box));
    const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    found.sort(([n, one], [m, other]) => (m === this.selected) - (n === this.selected) || area(one) - area(other));
    return found.length ? found[0][0] : -1;
  }

  // Which sides of a box a drag from a point moves: those near it, all from inside, or null.
  sides([x, y], box) {
    const at = this.onScreen(box), right = at.x + at.width, bottom = at.y + at.height;
    if (x < at.x - GRIP || x > right + GRIP || y < at.y - GRIP || y > bottom + GRIP) return null;
    const near = [[x, at.x, right], [y, at.y, bottom]].map(([value, low, high]) => {
      const [toLow, toHigh] = [Math.abs(value - low), Math.abs(value - high)];
      return Math.min(toLow, toHigh) > GRIP ? [false, false] : [toLow < toHigh, toLow >= toHigh];
    });
    const sides = [near[0][0], near[1][0], near[0][1], near[1][1]];
    return sides.some(Boolean) ? sides : [true, true, true, true];
  }

  move(event) {
    if (!this.pointers.has(event.pointerId) || !this.drag) return;
    const before = [...this.pointers.values()], at = this.at(event), old = this.pointers.get(event.pointerId);
    this.pointers.set(event.pointerId, at);
    const { drag } = this;
    if (drag.pans) {
      if (this.pointers.size === 2) this.pinch(before, [...this.pointers.values()]);
      else this.pan(at[0] - old[0], at[1] - old[1]);
    } else if (drag.draws) {
      const [x0, y0] = this.toPhoto(...drag.from), [x1, y1] = this.toPhoto(...at);
      drag.box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
      this.render();
    } else {
      const by = [0, 1].map(axis => Math.round((at[axis] - drag.from[axis]) / this.scale));
      this.boxes = drag.before.map((box, n) => n === drag.n ? this.dragged(drag, by) : box);
      this.render();
    }
  }

  dragged({ box, sides }, by) {
    if (!sides.every(Boolean)) {
      const [x0, y0, x1, y1] = box.map((value, side) => sides[side] ? value + by[side % 2] : value);
      return this.inside([Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)]);
    }
    const dx = Math.min(this.width - box[2], Math.max(-box[0], by[0])), dy = Math.min(this.height - box[3], Math.max(-box[1], by[1]));
    return [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy];
  }

  pinch([a, b], [c, d]) {
    const span = ([x, y], [u, v]) => Math.hypot(x - u, y - v) || 1, middle = ([x, y], [u, v]) => [(x + u) / 2, (y + v) / 2];
    const [x, y] = middle(a, b), [u, v] = middle(c, d);
    this.zoom(span(c, d) / span(a, b), x, y);
    this.pan(u - x, v - y);
  }

  up(event, cancelled = false) {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size) return;
    const { drag } = this;
    this.drag = null;
    if (!drag || drag.pans) return this.render();
    if (drag.draws) {
      const { width, height } = this.onScreen(drag.box);
      if (cancelled || Math.max(width, height) < LEAST) this.select(-1);
      else this.add(drag.box);
      return;
    }
    const after = this.boxes;
    this.boxes = drag.before;
    this.set(cancelled ? drag.before : after, drag.n);
  }

  wheel(event) {
    if (!this.width) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 33 : 1;
    this.zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) / 400), ...this.at(event));
  }
}

function make(kind, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Two ends in whole pixels, inside 0..length and at least one apart.
function span(low, high, length) {
  const start = Math.min(length - 1, Math.max(0, Math.round(low)));
  return [start, Math.max(start + 1, Math.min(length, Math.round(high)))];
}

function corners({ x, y, width, height }) {
  return [[x, y], [x + width, y], [x, y + height], [x + width, y + height]];
}
