// Two to four corners: what lies between them, and a walk through them that plays.

import { $, make, picture, problem, say, show } from "./dom.js";
import { ask, newest, save } from "./net.js";
import { change, nameOf, same, state } from "./state.js";

const SIDE = 128;
let about, wanted = "", frames = [], place = 0, playing = null, cornerAddresses = [];

export function start(model) {
  about = model;
  $("ending").replaceChildren(...about.endings.map((ending) => new Option(ending.toUpperCase(), ending)));
  $("play").onclick = () => (playing ? pause() : play());
  $("place").oninput = () => (pause(), showFrame(Number($("place").value)));
  $("fps").oninput = () => {
    $("fps-value").value = $("fps").value;
    if (playing) play();
  };
  $("save-square").onclick = () => keep({ what: "between", steps: about.steps, corners: state.corners });
  $("save-corners").onclick = () => keep({ what: "latents", points: state.corners });
  $("save-walk").onclick = () => keep({
    what: "walk", steps: about.tiles, corners: state.corners, ending: $("ending").value, fps: Number($("fps").value),
  });
}

export function render() {
  const asked = JSON.stringify([state.corners, state.at]);
  if (asked === wanted) return;
  wanted = asked;
  const enough = state.corners.length > 1;
  $("ways-hint").hidden = enough;
  if (!enough) {
    pause();
    $("square-part").hidden = $("walk-part").hidden = true;
  }
  layCorners();
  if (state.corners.length) showCorners();
  if (enough) showWays();
}

export function forget() {
  wanted = "";
}

function layCorners() {
  const places = ["1", "2", "3", "4"];
  $("corners").replaceChildren(...places.map((number, i) => {
    const point = state.corners[i];
    if (!point) return make("div", { textContent: `Corner ${number}` });
    const name = nameOf(point);
    const take = make("button", { className: "take", ariaLabel: `Corner ${number}, ${name}: make it the subject`, title: name, onclick: () => adopt(point) }, picture("data:,", ""));
    const away = make("button", { className: "away", textContent: "\u00d7", ariaLabel: `Remove corner ${number}`, onclick: () => change({ corners: state.corners.filter((_, k) => k !== i) }) });
    return make("div", { className: "there" }, take, away);
  }));
}

function adopt({ prior, truncation, attributes, components, ...subject }) {
  const own = "seed" in subject ? { prior: prior ?? null, truncation: truncation ?? 1 } : {};
  change({ subject, attributes, components, ...own });
}

const showCorners = newest(async () => {
  const { images } = await ask("look", { points: state.corners, at: state.at, side: SIDE });
  const shown = $("corners").querySelectorAll(".take img");
  images.forEach((address, i) => shown[i] && show(shown[i], address));
}, problem);

const showWays = newest(async () => {
  const corners = state.corners, at = state.at;
  if (corners.length < 2) return;
  const square = await ask("between", { corners, at, steps: about.steps, side: SIDE });
  $("square").style.gridTemplateColumns = `repeat(${square.columns}, 1fr)`;
  $("square").replaceChildren(...square.images.map((address) => picture(address, "")));
  $("square").ariaLabel = `Between ${corners.map(nameOf).join(", ")}`;
  $("square-part").hidden = false;
  const walk = await ask("walk", { corners, at, steps: about.tiles, side: 256 });
  if (!same(corners, state.corners)) return;
  frames = walk.images;
  $("place").max = frames.length - 1;
  $("walk-part").hidden = false;
  showFrame(Math.min(place, frames.length - 1));
  if (!playing && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
}, problem);

function showFrame(number) {
  place = number;
  show($("frame"), frames[place]);
  $("place").value = place;
  $("place-value").value = `${place + 1} of ${frames.length}`;
}

function play() {
  pause();
  playing = setInterval(() => showFrame((place + 1) % frames.length), 1000 / Number($("fps").value));
  $("play").textContent = "Pause";
}

function pause() {
  clearInterval(playing);
  playing = null;
  $("play").textContent = "Play";
}

async function keep(asked) {
  try {
    say("Making the file …");
    say(`Saved ${await save({ ...asked, at: state.at })}.`);
  } catch (error) {
    problem(error);
  }
}
