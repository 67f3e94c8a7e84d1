// Elements, and what the page says of itself.

import { Refusal } from "./net.js";

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Set an image; those of many pixels are not enlarged pixel by pixel.
export function show(image, address, alt) {
  image.onload = () => image.classList.toggle("smooth", image.naturalWidth >= 256);
  image.src = address;
  if (alt !== undefined) image.alt = alt;
  return image;
}

export const picture = (address, alt) => show(make("img"), address, alt);

export function figure(address, title, more = "", alt = title) {
  return make("figure", {}, picture(address, alt), make("figcaption", {}, make("b", { textContent: title }), " ", more));
}

// Buttons with pictures, of which one may be chosen. Those of before are kept and so is the focus.
export function tiles(place, items, choose) {
  while (place.children.length > items.length) place.lastChild.remove();
  items.forEach(({ address, name, mark, pressed }, i) => {
    const tile = place.children[i] ?? place.appendChild(make("button", {}, make("img", { alt: "" }), make("small")));
    if (address) show(tile.firstChild, address);
    tile.lastChild.textContent = mark ?? "";
    tile.lastChild.hidden = !mark;
    tile.title = name;
    tile.setAttribute("aria-label", name);
    tile.setAttribute("aria-pressed", String(Boolean(pressed)));
    tile.onclick = () => choose(i);
  });
}

let hiding;
export function say(text) {
  $("status").textContent = text;
  $("status").classList.add("seen");
  clearTimeout(hiding);
  hiding = setTimeout(() => $("status").classList.remove("seen"), 4000);
}

// A sentence that stays until something works again.
export function problem(error) {
  const text = error instanceof Refusal ? error.message : typeof error === "string" ? error : "";
  if (error instanceof Error && !(error instanceof Refusal)) console.error(error);
  $("problem").textContent = text || "Something went wrong in this page: its console says what.";
  $("problem").hidden = false;
}

export function fine() {
  $("problem").hidden = true;
}
