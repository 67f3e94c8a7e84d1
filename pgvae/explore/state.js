// What the page shows, all of it, as one object. It is in the address after the #, so that a link
// restores it, and each settled change is an entry of the browser's history: undo is going back.

const START = {
  from: "samples", // or "images"
  first: 0, // seed of the grid
  unseen: 0, // first unseen image of the grid
  prior: null, // null: the model's default
  truncation: 1,
  subject: { seed: 0 }, // or { image, name } or { unseen }
  attributes: {}, // moves by name
  components: {}, // by index
  at: null, // images seen by the snapshot that draws; null: the newest
  corners: [], // points
};

export const state = {};
const watchers = [];
let furthest = 0;

export function start() {
  adopt(history.state?.saved ?? fromAddress());
  const depth = history.state?.depth ?? 0;
  furthest = depth;
  history.replaceState({ depth, saved: copy(state) }, "", address());
  addEventListener("popstate", (event) => {
    const known = event.state?.saved;
    adopt(known ?? fromAddress());
    if (!known) history.replaceState({ depth: furthest, saved: copy(state) }, "");
    tell();
  });
}

// settled: false while a slider is held.
export function change(patch, settled = true) {
  Object.assign(state, patch);
  if (settled) {
    const depth = (history.state?.depth ?? 0) + 1;
    furthest = depth;
    history.pushState({ depth, saved: copy(state) }, "", address());
  }
  tell();
}

export const reset = () => change(copy(START));
export const still = () => change({ attributes: {}, components: {} });
export const undo = () => canUndo() && history.back();
export const redo = () => canRedo() && history.forward();
export const canUndo = () => (history.state?.depth ?? 0) > 0;
export const canRedo = () => (history.state?.depth ?? 0) < furthest;
export const watch = (show) => watchers.push(show);
export const tell = () => watchers.forEach((show) => show(state));
export const moved = () => [state.attributes, state.components].some((part) => Object.keys(part).length);

// The source of a picture as the server knows it, without moves.
export function sourceOf(subject) {
  if (!("seed" in subject)) return { ...subject };
  const prior = state.prior ? { prior: state.prior } : {};
  return { ...subject, ...prior, truncation: state.truncation };
}

export function subjectPoint() {
  return { ...sourceOf(state.subject), attributes: { ...state.attributes }, components: { ...state.components } };
}

export function nameOf(point) {
  if ("seed" in point) return `Seed ${point.seed}`;
  return "unseen" in point ? `Unseen image ${point.unseen + 1}` : point.name || "Your image";
}

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const copy = (value) => JSON.parse(JSON.stringify(value));

function adopt(saved) {
  const known = Object.entries(saved).filter(([key, value]) => key in START && fits(START[key], value));
  Object.assign(state, copy(START), copy(Object.fromEntries(known)));
}

// A link may be from anywhere: what is of another type is left out, what is wrong the server says.
function fits(usual, value) {
  if (usual === null) return value === null || ["string", "number"].includes(typeof value);
  if (Array.isArray(usual)) return Array.isArray(value) && value.every((one) => fits({}, one));
  return value !== null && typeof value === typeof usual && !Array.isArray(value);
}

function address() {
  const changed = Object.entries(state).filter(([key, value]) => !same(value, START[key]));
  return changed.length ? `#${encodeURIComponent(JSON.stringify(Object.fromEntries(changed)))}` : location.pathname;
}

function fromAddress() {
  try {
    return Object(JSON.parse(decodeURIComponent(location.hash.slice(1)) || "{}"));
  } catch {
    return {};
  }
}
