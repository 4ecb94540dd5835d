"use strict";
// Tables sort by a column's head; rows of the index are filtered by text and state.
const valueOf = (row, index) => row.cells[index].textContent.trim();
const numberOf = (text) => parseFloat(text.replace(/[,<]/g, ""));

const compareTexts = (a, b) => {
  const x = numberOf(a), y = numberOf(b);
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return a.localeCompare(b, "en", { numeric: true });
};

const sortBy = (table, index) => {
  const heads = table.tHead.rows[0].cells, body = table.tBodies[0];
  const order = heads[index].getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const rows = Array.from(body.rows);
  rows.sort((a, b) => sign * compareTexts(valueOf(a, index), valueOf(b, index)));
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[index].setAttribute("aria-sort", order);
  body.append(...rows);
};

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, index));
    head.append(button);
  });
}

const search = document.getElementById("search"), state = document.getElementById("state");
const filter = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = state ? state.value : "";
  let shown = 0;
  for (const row of document.querySelectorAll("table.filtered tbody tr")) {
    const text = row.textContent.toLowerCase(), states = row.dataset.states;
    const fits = words.every((word) => text.includes(word)) && (!wanted || (states || "").split("|").includes(wanted));
    row.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  document.getElementById("matches").textContent = words.length || wanted ? `${shown} shown` : "";
};
if (search) search.addEventListener("input", filter);
if (state) state.addEventListener("change", filter);
