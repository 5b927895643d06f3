"use strict";
(() => {
  const get = id => document.getElementById(id);
  const IDLE = 15_000; // milliseconds without a movement or key after which nobody is looking
  const state = { token: "", annotator: "", about: {}, task: null, url: null, busy: false };

  // --- the server ---------------------------------------------------------------------------

  async function ask(path, body) {
    const headers = { "X-Token": state.token, "Content-Type": "application/json" };
    const options = body ? { method: "POST", headers, body: JSON.stringify({ annotator: state.annotator, ...body }) } : { headers };
    let answer;
    try {
      answer = await fetch(`api/${path}`, options);
    } catch {
      throw new Error("the server does not answer; start `iml annotate` again and open the address that it prints");
    }
    if (answer.ok) return answer;
    const text = await answer.text();
    let detail = text;
    try { ({ detail } = JSON.parse(text)); } catch { /* plain text */ }
    throw Object.assign(new Error(detail), { status: answer.status });
  }

  async function guarded(work) {
    if (state.busy) return;
    state.busy = true;
    try {
      await work();
      get("error").textContent = "";
    } catch (error) {
      if (error.status === 401) return only("refused", get("why"), `Not allowed: ${error.message}`);
      get("error").textContent = error.message;
    } finally {
      state.busy = false;
    }
  }

  // --- attention ----------------------------------------------------------------------------

  let active = 0, ticked = performance.now(), spent = 0;
  for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"]) addEventListener(kind, () => { active = performance.now(); }, { capture: true, passive: true });
  setInterval(() => {
    const now = performance.now(), passed = Math.min(1000, now - ticked);
    ticked = now;
    if (document.visibilityState === "visible" && now - active < IDLE && state.task) spent += passed / 1000;
  }, 200);

  // --- photos -------------------------------------------------------------------------------

  const canvas = new Canvas(get("canvas"), changed);
  const draft = () => `boxes of ${state.task.photo}`;

  function only(id, where, text) {
    for (const part of document.querySelectorAll("main")) part.hidden = part.id !== id;
    if (where) where.textContent = text;
  }

  const open = position => guarded(() => show(position));

  async function show(position) {
    const { task, report } = await (await ask("open", { position })).json();
    progress(report);
    state.task = task;
    if (!task) {
      only("done", get("sum"), sum(report));
      get("again").focus();
      return;
    }
    only("work");
    spent = task.seconds;
    canvas.clear();
    if (state.url) URL.revokeObjectURL(state.url);
    state.url = null;
    get("name").textContent = task.name;
    get("facts").textContent = facts(task);
    get("problem").hidden = !task.problem;
    get("problem").textContent = task.problem ? `This photo cannot be read: ${task.problem}` : "";
    for (const id of ["save", "authentic", "cannot", "add"]) get(id).disabled = Boolean(task.problem);
    if (!task.problem) {
      const photo = URL.createObjectURL(await (await ask(`photo/${task.photo}`)).blob());
      state.url = photo;
      const kept = sessionStorage.getItem(draft());
      canvas.load(photo, task.width, task.height, kept ? JSON.parse(kept) : task.boxes);
    }
    canvas.select(-1);
    get("canvas").focus();
  }

  function facts(task) {
    const known = [task.width ? `${task.width} × ${task.height}` : "", task.label ? `in the data set: ${task.label}` : "", task.reason ? `why now: ${task.reason}` : "", task.decided ? `you decided: ${task.decided}` : ""];
    return known.filter(Boolean).join("; ");
  }

  async function decide(mark) {
    if (!state.task || (state.task.problem && mark !== "not usable")) return;
    const { photo, position } = state.task, boxes = mark === "manipulated" ? canvas.boxes : [];
    if (mark === "manipulated" && !boxes.length) {
      get("error").textContent = "Draw a box first, or decide that the photo is authentic.";
      return;
    }
    await guarded(async () => {
      await ask("decide", { photo, mark, boxes, seconds: spent });
      sessionStorage.removeItem(draft());
      get("message").textContent = `Saved: ${state.task.name}, ${mark}.`;
      await show(position + 1);
    });
  }

  // --- masks --------------------------------------------------------------------------------

  function changed() {
    list();
    if (!state.task || state.task.problem) return;
    if (canvas.past.length || canvas.future.length) sessionStorage.setItem(draft(), JSON.stringify(canvas.boxes));
    for (const box of canvas.boxes) if (!canvas.shown.has(String(box))) mask(box);
  }

  async function mask(box) {
    const start = performance.now(), { photo } = state.task;
    canvas.shown.set(String(box), null); // asked for
    try {
      const answer = await ask("mask", { photo, box });
      const shown = JSON.parse(answer.headers.get("X-Mask"));
      shown.url = URL.createObjectURL(await answer.blob());
      const image = new Image();
      image.src = shown.url;
      await image.decode();
      if (state.task?.photo !== photo) return URL.revokeObjectURL(shown.url);
      canvas.show(box, shown);
      list();
      requestAnimationFrame(() => performance.measure("mask", { start, end: performance.now() }));
    } catch (error) {
      canvas.shown.delete(String(box)); // asked for again with the next change
      get("error").textContent = error.message;
    }
  }

  function list() {
    const rows = canvas.boxes.map((box, n) => {
      const row = document.createElement("li"), button = row.appendChild(document.createElement("button"));
      const shown = canvas.shown.get(String(box));
      button.type = "button";
      button.setAttribute("aria-pressed", n === canvas.selected);
      button.textContent = `${Math.round(box[2] - box[0])} × ${Math.round(box[3] - box[1])} at ${Math.round(box[0])}, ${Math.round(box[1])}`;
      const about = button.appendChild(document.createElement("span"));
      about.className = "quiet";
      about.textContent = !shown ? "mask …" : shown.fallback ? "the mask is the box itself" : `mask, confidence ${shown.confidence.toFixed(2)}`;
      button.addEventListener("click", () => canvas.select(n));
      return row;
    });
    const focused = [...get("boxes").querySelectorAll("button")].indexOf(document.activeElement);
    get("boxes").replaceChildren(...rows);
    if (focused >= 0) get("boxes").querySelectorAll("button")[focused]?.focus();
    get("none").hidden = rows.length > 0;
    get("delete").disabled = canvas.selected < 0;
    get("undo").disabled = !canvas.past.length;
    get("redo").disabled = !canvas.future.length;
  }

  // --- progress -----------------------------------------------------------------------------

  const hours = seconds => seconds < 60 ? "less than 1 min" : seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

  function progress(report) {
    const { photos, decided, left, pace, seconds } = report;
    const parts = [`${decided} of ${photos} decided`, `${left} left`];
    if (pace) parts.push(`${Math.round(pace)} photos/h`, `${hours(seconds)} spent`, `about ${hours(left / pace * 3600)} to go`);
    get("progress").textContent = parts.join(" · ");
  }

  function sum({ marks, agreement }) {
    const parts = Object.entries(marks).filter(([, count]) => count).map(([mark, count]) => `${count} ${mark}`);
    const number = value => value === null ? "not defined" : value.toFixed(2);
    if (agreement.photos) parts.push(`${agreement.photos} with two opinions: kappa ${number(agreement.kappa)}, boxes' mean IoU ${number(agreement.mean_iou)}`);
    return parts.join("; ");
  }

  // --- keys and buttons ---------------------------------------------------------------------

  const marks = { save: "manipulated", authentic: "authentic", cannot: "cannot tell", unusable: "not usable" };
  const actions = {
    add: () => { if (state.url) canvas.add(); },
    delete: () => canvas.remove(),
    undo: () => canvas.undo(),
    redo: () => canvas.redo(),
    fit: () => canvas.fit(),
    back: () => { if (state.task?.position > 0) open(state.task.position - 1); },
    next: () => { if (state.task) open(state.task.position + 1); },
    help: () => get("keys").showModal(),
    ...Object.fromEntries(Object.entries(marks).map(([id, mark]) => [id, () => decide(mark)])),
  };
  const keys = {
    b: actions.add, delete: actions.delete, backspace: actions.delete, z: actions.undo, y: actions.redo, 0: actions.fit,
    "+": () => canvas.zoom(1.5), "=": () => canvas.zoom(1.5), "-": () => canvas.zoom(1 / 1.5),
    s: () => { if (canvas.boxes.length) canvas.select((canvas.selected + 1) % canvas.boxes.length); },
    m: () => get("canvas").classList.toggle("bare"),
    a: actions.authentic, c: actions.cannot, n: actions.unusable, "[": actions.back, "]": actions.next,
    escape: () => canvas.select(-1), "?": actions.help,
  };
  const arrows = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

  function pressed(event) {
    if (get("work").hidden || get("keys").open || event.target.matches("input")) return;
    const key = event.key.toLowerCase(), own = event.target.matches("button");
    if (key === " ") { if (!own) { canvas.space = true; event.preventDefault(); } return; }
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") { event.preventDefault(); event.shiftKey ? canvas.redo() : canvas.undo(); }
      return;
    }
    if (arrows[key]) {
      event.preventDefault();
      const [dx, dy] = arrows[key];
      if (canvas.selected < 0) return canvas.pan(-dx * 60, -dy * 60);
      const by = event.altKey ? 1 : Math.max(1, Math.round(8 / canvas.scale));
      return canvas.nudge(dx * by, dy * by, event.shiftKey);
    }
    if (event.altKey || event.repeat && "acn[]".includes(key)) return;
    if (key === "enter") { if (!own && !event.repeat) decide("manipulated"); return; }
    if (keys[key]) { event.preventDefault(); keys[key](); }
  }

  addEventListener("keydown", pressed);
  addEventListener("keyup", event => { if (event.key === " ") canvas.space = false; });
  addEventListener("blur", () => { canvas.space = false; });
  for (const [id, action] of Object.entries(actions)) {
    get(id).addEventListener("click", event => {
      action();
      if (event.detail && id !== "help") get("canvas").focus(); // by mouse: keys are the photo's again
    });
  }
  get("close").addEventListener("click", () => get("keys").close());
  get("again").addEventListener("click", () => open(Number.MAX_SAFE_INTEGER));
  get("who").addEventListener("submit", event => {
    event.preventDefault();
    begin(get("annotator").value.trim());
  });

  function begin(annotator) {
    if (!annotator) return;
    state.annotator = annotator;
    sessionStorage.setItem("annotator", annotator);
    open(null);
  }

  async function start() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
    state.token = sessionStorage.getItem("token") ?? "";
    await guarded(async () => {
      state.about = await (await ask("about")).json();
      get("source").textContent = state.about.source;
      get("annotator").value = sessionStorage.getItem("annotator") ?? state.about.annotator ?? "";
      if (!sessionStorage.getItem("annotator")) { only("start"); get("annotator").focus(); }
    });
    if (sessionStorage.getItem("annotator") && get("refused").hidden) begin(sessionStorage.getItem("annotator"));
  }
  start();
})();
