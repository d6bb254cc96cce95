"use strict";
// One order of the methods in all tables and plots of scores, and which types of methods are shown.
(() => {
  const tools = document.getElementById("method-tools");
  const select = document.getElementById("sort-by");
  const boxes = [...tools.querySelectorAll("input")];
  const bodies = [...document.querySelectorAll("tbody[data-sortable]")];
  const plots = [...document.querySelectorAll(".plots svg")].map(svg => {
    const rows = [...svg.querySelectorAll("g.row")];
    return {rows, places: rows.map(row => row.getAttribute("transform"))};
  });
  if (!bodies.length) return;
  const given = [...bodies[0].rows].map(row => row.dataset.name);
  let ascending = false;

  function values(metric) {
    const found = new Map();
    for (const cell of document.querySelectorAll(`tbody[data-sortable] td[data-metric="${metric}"][data-value]`))
      if (!found.has(cell.parentNode.dataset.name)) found.set(cell.parentNode.dataset.name, Number(cell.dataset.value));
    return found;
  }

  // Methods without a number come last, in the report's order, whatever the direction.
  function order(metric) {
    if (!metric) return given;
    const found = values(metric), sign = ascending ? 1 : -1;
    const known = given.filter(name => found.has(name));
    return [...known.sort((a, b) => sign * (found.get(a) - found.get(b))), ...given.filter(name => !found.has(name))];
  }

  function arrange() {
    const place = new Map(order(select.value).map((name, i) => [name, i]));
    const first = (a, b) => place.get(a.dataset.name) - place.get(b.dataset.name);
    for (const body of bodies) body.append(...[...body.rows].sort(first));
    for (const {rows, places} of plots) {
      const shown = [...rows].sort((a, b) => a.hasAttribute("hidden") - b.hasAttribute("hidden") || first(a, b));
      shown.forEach((row, i) => row.setAttribute("transform", places[i]));
    }
    for (const head of document.querySelectorAll("th[data-metric]")) {
      if (head.dataset.metric === select.value) head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  }

  function sort(metric) {
    const better = select.querySelector(`option[value="${metric}"]`).dataset.better;
    ascending = metric === select.value ? !ascending : better === "-1";
    select.value = metric;
    arrange();
  }

  function filter() {
    for (const box of boxes)
      for (const each of document.querySelectorAll(`[data-type="${box.value}"]`)) each.toggleAttribute("hidden", !box.checked);
    arrange();
    document.dispatchEvent(new Event("types"));
  }

  const sortable = new Set([...select.options].map(option => option.value));
  for (const head of document.querySelectorAll("th[data-metric]")) {
    if (!sortable.has(head.dataset.metric) || !head.closest("table").querySelector("tbody[data-sortable]")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head.dataset.metric));
    head.append(button);
  }
  select.addEventListener("change", () => {
    ascending = select.selectedOptions[0].dataset.better === "-1";
    arrange();
  });
  for (const box of boxes) box.addEventListener("change", filter);
  tools.hidden = bodies[0].rows.length < 2;
  document.querySelector(".legend").hidden = !tools.hidden && boxes.length > 0;  // the boxes say the same
})();
