// Sliders along attributes and principal components, each with what lies at its ends.

import { $, make, picture, problem } from "./dom.js";
import { ask } from "./net.js";
import { change, state, still } from "./state.js";
import { signed } from "./subject.js";

const REACH = { attributes: 6, components: 4 };
let rows = []; // { part, key, row, input, output, chance }

export async function start(about) {
  $("still").onclick = still;
  rows = about.attributes.map((name) => slider("attributes", name, name));
  if (rows.length) lay([]);
  try {
    const ends = await ask("ends");
    const named = (k) => `Component ${k + 1}`;
    const components = ends.shares.map((_, k) => slider("components", String(k), named(k), share(ends.shares[k])));
    rows = [...rows, ...components];
    for (const row of rows) {
      const own = ends[row.part][row.part === "attributes" ? about.attributes.indexOf(row.key) : Number(row.key)];
      const pictures = own.map((address) => picture(address, ""));
      row.row.querySelector(".less").replaceChildren(...pictures.slice(0, 2));
      row.row.querySelector(".more").replaceChildren(...pictures.slice(2));
    }
    lay([heading("Principal components", `of the latents of ${ends.of}`), ...components.map((one) => one.row)], about);
    render();
  } catch (error) {
    lay([], about);
    problem(error);
  }
}

export function render() {
  $("still").disabled = !rows.some(({ part, key }) => state[part][key]);
  for (const { part, key, row, input, output } of rows) {
    const size = state[part][key] ?? 0;
    input.value = size;
    input.setAttribute("aria-valuetext", said(size));
    output.value = size ? signed(size) : "";
    row.classList.toggle("moved", size !== 0);
  }
}

// How sure the attributes are of the subject.
export function sure(chances) {
  rows.filter((row) => row.part === "attributes").forEach(({ chance, input }, i) => {
    if (!chances) return;
    chance.bar.style.width = `${100 * chances[i]}%`;
    chance.text.textContent = `${Math.round(100 * chances[i])} %`;
    input.setAttribute("aria-valuetext", `${said(Number(input.value))}, ${chance.text.textContent} sure`);
  });
}

const said = (size) => `${signed(size)} deviations`;
const share = (value) => `${(100 * value).toFixed(1)} % of the variance`;
const heading = (text, more) => make("h3", {}, text, " ", make("small", { textContent: more }));

function lay(components, about) {
  const attributes = rows.filter((row) => row.part === "attributes").map((one) => one.row);
  const hint = make("p", { className: "soft", textContent: "This model knows no attributes: " });
  hint.append(make("code", { textContent: "pgvae directions" }), " estimates them from labels.");
  const top = attributes.length ? [heading("Attributes", "in deviations of the prior"), ...attributes] : about ? [hint] : [];
  $("sliders").replaceChildren(...top, ...components);
}

function slider(part, key, name, more = "") {
  const reach = REACH[part];
  const input = make("input", { type: "range", min: -reach, max: reach, step: 0.1, value: 0, ariaLabel: name });
  const output = make("output");
  const chance = { bar: make("i"), text: make("small") };
  const note = part === "attributes" ? [make("small", {}, make("span", { className: "chance" }, chance.bar), " ", chance.text)] : [make("small", { textContent: more })];
  const zero = make("button", { textContent: "\u00d7", ariaLabel: `Reset ${name}`, title: "Reset" });
  const head = make("div", { className: "name" }, make("span", { textContent: name }), output, zero, ...note);
  const ends = ["less", "more"].map((end) => make("div", { className: `ends ${end}` }));
  const row = make("div", { className: "slider" }, head, ends[0], input, ends[1]);
  const move = (size, settled) => {
    const { [key]: _, ...others } = state[part];
    change({ [part]: size ? { ...others, [key]: size } : others }, settled);
  };
  input.oninput = () => move(Number(input.value), false);
  input.onchange = () => move(Number(input.value), true);
  zero.onclick = () => {
    move(0, true);
    input.focus();
  };
  return { part, key, row, input, output, chance };
}
