// What to start from: samples by seed, images that are chosen or dropped, unseen ones of the set.

import { $, fine, problem, say, tiles } from "./dom.js";
import { ask, newest, onForgotten, save, sendFile } from "./net.js";
import { change, nameOf, same, sourceOf, state } from "./state.js";

const SHELF = "pgvae-images"; // of the browser: they outlive a reload, and a restart of the server
const MOST_SHELVED = 24;
let about, sent = [], wanted = "", unseenWanted = "";

export function start(model) {
  about = model;
  try {
    sent = JSON.parse(localStorage.getItem(SHELF) ?? "[]").filter((one) => String(one.side) === about.size);
  } catch { /* a browser that keeps nothing */ }
  $("prior").replaceChildren(...about.priors.map((prior) => new Option(prior, prior)));
  $("unseen-part").hidden = !about.unseen;
  $("no-dataset").hidden = Boolean(about.dataset);
  $("unseen-title").textContent = `Unseen: ${about.dataset ?? ""}`;
  for (const radio of document.getElementsByName("from")) radio.onchange = () => change({ from: radio.value });
  const turn = (first) => change({ first: Math.min(Math.max(0, Math.floor(first) || 0), 4294967000) });
  $("first").onchange = () => turn(Number($("first").value));
  $("earlier").onclick = () => turn(state.first - about.tiles);
  $("later").onclick = () => turn(state.first + about.tiles);
  $("any").onclick = () => turn(Math.random() * 1e6);
  $("prior").onchange = () => change(truncates($("prior").value) ? { prior: $("prior").value } : { prior: $("prior").value, truncation: 1 });
  $("truncation").oninput = () => change({ truncation: Number($("truncation").value) }, false);
  $("truncation").onchange = () => change({ truncation: Number($("truncation").value) });
  const leaf = (step) => change({ unseen: Math.min(Math.max(0, state.unseen + step), Math.max(0, about.unseen - 1)) });
  $("unseen-earlier").onclick = () => leaf(-about.tiles);
  $("unseen-later").onclick = () => leaf(about.tiles);
  $("save-seeds").onclick = () => keep("picture");
  $("save-seeds-latents").onclick = () => keep("latents");
  onForgotten(resend);
  receive();
}

export function render() {
  for (const radio of document.getElementsByName("from")) radio.checked = radio.value === state.from;
  $("samples").hidden = state.from !== "samples";
  $("images").hidden = state.from === "samples";
  $("first").value = state.first;
  $("prior").value = state.prior ?? about.prior;
  $("truncation").value = state.truncation;
  $("truncation").disabled = !truncates($("prior").value);
  $("truncation-value").value = state.truncation.toFixed(2);
  $("unseen-earlier").disabled = state.unseen === 0;
  $("unseen-later").disabled = state.unseen + about.tiles >= about.unseen;
  press();
  const asked = JSON.stringify([seeds(), state.at]);
  if (state.from === "samples" && asked !== wanted) showSeeds((wanted = asked));
  const unseen = JSON.stringify(unseenPoints());
  if (state.from === "images" && about.unseen && unseen !== unseenWanted) showUnseen((unseenWanted = unseen));
}

export function forget() {
  wanted = unseenWanted = "";
}

const resend = () => Promise.all(sent.map(({ picture }) => {
  const bytes = Uint8Array.from(atob(picture.split(",")[1]), (letter) => letter.charCodeAt(0));
  return sendFile(new Blob([bytes]));
}));

const truncates = (prior) => about.truncates.includes(prior);
const seeds = () => Array.from({ length: about.tiles }, (_, i) => sourceOf({ seed: state.first + i }));
const unseenPoints = () => {
  const count = Math.min(about.tiles, about.unseen - state.unseen);
  return Array.from({ length: Math.max(0, count) }, (_, i) => ({ unseen: state.unseen + i }));
};

const choose = (subject) => change({ subject });

function press(addresses = [], unseen = []) {
  tiles($("seeds"), seeds().map(({ seed }, i) => (
    { address: addresses[i], name: `Seed ${seed}`, mark: String(seed), pressed: same({ seed }, state.subject) })),
  (i) => choose({ seed: seeds()[i].seed }));
  tiles($("sent"), sent.map(({ image, name, picture }) => (
    { address: picture, name, pressed: state.subject.image === image })),
  (i) => choose({ image: sent[i].image, name: sent[i].name }));
  tiles($("unseen"), unseenPoints().map((point, i) => (
    { address: unseen[i], name: nameOf(point), pressed: same(point, state.subject) })),
  (i) => choose(unseenPoints()[i]));
}

const showSeeds = newest(async () => {
  const found = await ask("look", { points: seeds(), at: state.at, side: 128 });
  press(found.images);
  fine();
}, problem);

const showUnseen = newest(async () => {
  const found = await ask("originals", { points: unseenPoints(), side: 128 });
  press([], found.images);
}, problem);

async function keep(what) {
  try {
    say(`Saved ${await save({ what, points: seeds(), at: state.at })}.`);
  } catch (error) {
    problem(error);
  }
}

function receive() {
  const drop = $("drop");
  $("file").onchange = () => take([...$("file").files]).then(() => ($("file").value = ""));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    if (state.from !== "images") change({ from: "images" }, false);
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}

async function take(files) {
  for (const file of files) {
    try {
      if (file.size > 32 * 2 ** 20) throw `${file.name} is too large: 32 MiB at most.`;
      const { image, picture } = await sendFile(file);
      sent = [{ image, picture, name: file.name, side: about.size }, ...sent.filter((one) => one.image !== image)];
      sent.length = Math.min(sent.length, MOST_SHELVED);
      try {
        localStorage.setItem(SHELF, JSON.stringify(sent.slice(0, 8)));
      } catch { /* full, or a browser that keeps nothing */ }
      fine();
      change({ from: "images", subject: { image, name: file.name } });
    } catch (error) {
      problem(error);
    }
  }
}
