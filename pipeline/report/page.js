"use strict";
const rows = JSON.parse(document.getElementById("rows").textContent);
const list = document.getElementById("tiles");
const tiles = Array.from(list.children);
const find = document.getElementById("find");
const split = document.getElementById("split");
const order = document.getElementById("order");
const shown = document.getElementById("shown");
const nothing = document.getElementById("nothing");

const orders = {
  strange: (a, b) => a - b, // as they stand
  label: (a, b) => rows[a].label.localeCompare(rows[b].label) || a - b,
  longest: (a, b) => rows[b].length - rows[a].length || a - b,
  shortest: (a, b) => rows[a].length - rows[b].length || a - b,
};

function show() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const exact = rows.some((row) => row.label.toLowerCase() === find.value.trim().toLowerCase());
  const fits = (row) =>
    (!split.value || row.split === split.value) &&
    (exact
      ? row.label.toLowerCase() === find.value.trim().toLowerCase()
      : words.every((word) => row.find.includes(word)));
  let count = 0;
  for (const [i, tile] of tiles.entries()) {
    tile.hidden = !fits(rows[i]);
    count += !tile.hidden;
    if (tile.hidden) tile.querySelector("audio")?.pause();
  }
  const sorted = tiles.map((_, i) => i).sort(orders[order.value]);
  list.append(...sorted.map((i) => tiles[i]));
  shown.value = `${count} of ${tiles.length} shown`;
  nothing.hidden = count > 0;
}

find.addEventListener("input", show);
split.addEventListener("change", show);
order.addEventListener("change", show);
document.getElementById("clear").addEventListener("click", () => {
  find.value = split.value = "";
  order.value = "strange";
  show();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-find]");
  if (!link) return;
  find.value = link.dataset.find;
  split.value = "";
  show();
});
document.addEventListener(
  "play",
  (event) => {
    for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
  },
  true,
);
document.getElementById("filters").hidden = false;
show();
