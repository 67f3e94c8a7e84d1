// Pointing at a chart shows what all of them say at that moment; without scripts nothing is lost.
"use strict";
const charts = [...document.querySelectorAll("figure.chart")].map((figure) => {
  const svg = figure.querySelector("svg");
  const values = [...figure.querySelectorAll(".legend b")];
  const curves = [...svg.querySelectorAll(".line")].map((line, index) => ({
    value: values[index],
    last: values[index].textContent,
    points: line.dataset.p.split(" ").map((point) => point.split(":")),
  }));
  return { svg, curves, cursor: svg.querySelector(".cursor"), at: figure.querySelector(".at") };
});

function nearest(points, images) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < images) low = middle;
    else high = middle;
  }
  return images - points[low][0] < points[high][0] - images ? points[low] : points[high];
}

function show(images) {
  for (const { svg, curves, cursor, at } of charts) {
    const { left, right } = svg.dataset;
    for (const { value, points, last } of curves) {
      value.textContent = images === null ? last : nearest(points, images)[1];
    }
    const x = Number(left) + ((right - left) * images) / svg.dataset.images;
    cursor.setAttribute("d", images === null ? "" : `M${x.toFixed(1)} 16V166`);
    at.textContent = images === null ? "" : `at ${Number((images / 1000).toPrecision(4))} kimg`;
  }
}

for (const { svg } of charts) {
  const { left, right, images } = svg.dataset;
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    show(Math.min(1, Math.max(0, (x - left) / (right - left))) * images);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => show(null));
}
