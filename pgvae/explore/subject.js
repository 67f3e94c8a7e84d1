// The subject: its picture, what it was, the model at other times, neighbours, files.

import { $, figure, fine, make, problem, say, show } from "./dom.js";
import { ask, newest, save } from "./net.js";
import { change, moved, nameOf, sourceOf, state, subjectPoint } from "./state.js";

let about, seen = "", compared = "", onSure;

export function start(model, tellSure) {
  about = model;
  onSure = tellSure;
  $("time-part").hidden = about.snapshots.length < 2;
  $("time").max = about.snapshots.length - 1;
  const at = () => {
    const images = about.snapshots[Number($("time").value)];
    return images === about.images_seen ? null : images;
  };
  $("time").oninput = () => change({ at: at() }, false);
  $("time").onchange = () => change({ at: at() });
  $("corner").onclick = () => {
    change({ corners: [...state.corners, subjectPoint()].slice(-4) });
    say(`${nameOf(state.subject)} is corner ${state.corners.length}.`);
  };
  $("save-picture").onclick = () => keep("picture");
  $("save-latent").onclick = () => keep("latents");
  $("near").onclick = () => showNeighbours();
  $("near").disabled = !about.training;
  $("near").title = about.training ? "" : "Start with --dataset NAME";
}

export function render() {
  $("subject-title").textContent = nameOf(state.subject) + (moved() ? ", moved" : "");
  const place = state.at === null ? about.snapshots.length - 1 : about.snapshots.indexOf(state.at);
  $("time").value = place;
  const images = `${(state.at ?? about.images_seen).toLocaleString("en")} images`;
  $("time-value").value = images + (state.at === null ? " (the newest)" : "");
  $("time").setAttribute("aria-valuetext", images);
  $("corner").disabled = state.corners.length >= 4;
  const source = JSON.stringify([sourceOf(state.subject), state.at, moved()]);
  const point = JSON.stringify([subjectPoint(), state.at]);
  if (point !== seen) {
    seen = point;
    $("neighbours").replaceChildren();
    showPicture();
  }
  if (source !== compared) {
    compared = source;
    showCompared();
  }
}

export function forget() {
  seen = compared = "";
}

const showPicture = newest(async () => {
  const found = await ask("look", { points: [subjectPoint()], at: state.at });
  show($("picture"), found.images[0], `${nameOf(state.subject)}, as the model draws it`);
  onSure(found.sure?.[0]);
  $("caption").textContent = said();
  fine();
}, problem);

function said() {
  const moves = [
    ...Object.entries(state.attributes).map(([name, size]) => `${name} ${signed(size)}`),
    ...Object.entries(state.components).map(([k, size]) => `component ${Number(k) + 1} ${signed(size)}`),
  ];
  return moves.join(", ");
}

export const signed = (size) => (size > 0 ? "+" : size < 0 ? "\u2212" : "") + Math.abs(size).toFixed(1);

const showCompared = newest(async () => {
  const source = sourceOf(state.subject);
  if ("seed" in source) {
    if (!moved()) return $("compared").replaceChildren();
    const found = await ask("look", { points: [source], at: state.at, side: 256 });
    return $("compared").replaceChildren(figure(found.images[0], "Without moves"));
  }
  const found = await ask("reconstruction", { point: source, at: state.at });
  const scale = make("span", { className: "scale", role: "img", ariaLabel: "from white, none, to dark, 64 of 255 levels and more" });
  const psnr = `PSNR ${found.psnr.toFixed(2)} dB, RMSE ${found.rmse.toFixed(1)} of 255`;
  $("compared").replaceChildren(
    figure(found.original, "Original"),
    figure(found.again, "Reconstruction", psnr),
    figure(found.error, "Error", scale, `Map of errors; ${psnr}`),
  );
}, problem);

const showNeighbours = newest(async () => {
  say(`Comparing with ${about.training.toLocaleString("en")} training images …`);
  const asked = JSON.stringify([subjectPoint(), state.at]);
  const found = await ask("nearest", { point: subjectPoint(), at: state.at, side: 256 });
  if (asked !== seen) return;
  $("neighbours").replaceChildren(...found.images.map((address, i) => (
    figure(address, `${found.distances[i].toFixed(1)}`, found.names[i], `Training image ${found.names[i]}`))));
  say(`The nearest training image is ${found.distances[0].toFixed(1)} levels away (mean over pixels, of 255).`);
}, problem);

async function keep(what) {
  try {
    say(`Saved ${await save({ what, points: [subjectPoint()], at: state.at })}.`);
  } catch (error) {
    problem(error);
  }
}
