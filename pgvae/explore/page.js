// The whole page: it asks what the model is, starts the parts, and keeps them showing the state.

import { $, fine, problem, say } from "./dom.js";
import * as moves from "./moves.js";
import { ask, connection } from "./net.js";
import * as sources from "./sources.js";
import * as model from "./state.js";
import * as subject from "./subject.js";
import * as ways from "./ways.js";

const parts = [sources, subject, ways];
let about;

function render() {
  for (const part of [...parts, moves]) part.render();
  $("undo").disabled = !model.canUndo();
  $("redo").disabled = !model.canRedo();
}

async function begin() {
  try {
    about = await ask("about");
  } catch (error) {
    problem(error);
    return;
  }
  document.title = `${about.title} \u2013 pgvae explore`;
  document.documentElement.style.setProperty("--shape", about.shape);
  $("title").textContent = about.title;
  const seen = about.images_seen.toLocaleString("en");
  const where = about.title === about.snapshot ? "" : `${about.snapshot}, `;
  $("about").textContent = `${where}${about.objective} on ${about.trained_on}, ${about.size} px, ${about.latent_dim} latents, ${seen} images seen`;
  model.start();
  sources.start(about);
  subject.start(about, moves.sure);
  ways.start(about);
  moves.start(about);
  model.watch(render);
  render();
}

$("undo").onclick = model.undo;
$("redo").onclick = model.redo;
$("reset").onclick = model.reset;
$("link").onclick = async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link to what you see is copied.");
  } catch {
    say("This browser does not let pages copy: take the address from its bar.");
  }
};
addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches('input[type="number"]')) return;
  const key = event.key.toLowerCase();
  if (key === "z" || key === "y") {
    event.preventDefault();
    if (key === "y" || event.shiftKey) model.redo();
    else model.undo();
  }
});

connection.addEventListener("lost", () => {
  document.body.classList.add("lost");
  problem("The server does not answer. Start `pgvae explore` again: this page goes on by itself.");
});
connection.addEventListener("back", async () => {
  document.body.classList.remove("lost");
  fine();
  const now = await ask("about");
  if (!about || now.snapshot !== about.snapshot || now.title !== about.title) {
    location.reload();
    return;
  }
  say("The server is back.");
  for (const part of parts) part.forget();
  render();
});

begin();
