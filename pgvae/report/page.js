// Pointing at a chart shows what all of them say at that moment; without scripts nothing is lost.
"use strict";
const [left, right, end] = JSON.parse(document.currentScript.dataset.axis);
const charts = [...document.querySelectorAll(".chart")];
const curves = charts.map((chart) => JSON.parse(chart.dataset.points));
function show(seen) {
  const off = ([images]) => Math.abs(images - seen);
  const nearest = (points) => points.reduce((a, b) => (off(a) > off(b) ? b : a));
  charts.forEach((chart, index) => {
    chart.querySelectorAll("li b").forEach((value, k) => {
      const points = curves[index][k];
      value.textContent = (seen === null ? points.at(-1) : nearest(points))[1];
    });
    const cursor = chart.querySelector("i");
    cursor.hidden = seen === null;
    cursor.style.left = `${100 * (left + ((right - left) * seen) / end)}%`;
    const text = seen === null ? "" : `at ${Number((seen / 1000).toPrecision(4))} kimg`;
    chart.querySelector(".at").textContent = text;
  });
}
for (const plot of document.querySelectorAll(".plot")) {
  plot.onpointermove = plot.onpointerdown = ({ clientX }) => {
    const box = plot.getBoundingClientRect();
    const share = ((clientX - box.left) / box.width - left) / (right - left);
    show(Math.min(1, Math.max(0, share)) * end);
  };
  plot.onpointerleave = () => show(null);
}
